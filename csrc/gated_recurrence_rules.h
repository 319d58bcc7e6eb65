// What the gates of a recurrent layer do to the gradient of a state, for numbers and vectors of
// them. Formulas: cpu/gated_recurrence.cpp.
#pragma once

#include "host_device.h"

namespace rlsv_fast {

// The sums before the gates of a unit, and what goes past them to the state of the frame before.
template <typename V>
struct GateGradients {
  V reset, update, candidate, part, past;
};

template <typename V>
RLSV_HOST_DEVICE void through_gates(const V& of_state, const V& before, const V& reset,
                                    const V& update, const V& candidate, const V& part,
                                    GateGradients<V>& to) {
  to.candidate = of_state * (1 - update) * (1 - candidate * candidate);
  to.update = of_state * (before - candidate) * update * (1 - update);
  to.part = to.candidate * reset;
  to.reset = to.part * part * (1 - reset);
  to.past = of_state * update;
}

}  // namespace rlsv_fast
