// Sorted, amplitude-modulated cosines (EUSIPCO 2020, eq. 3-4 of the decoder):
//   W[i, l] = b[c, l] cos(2 pi (f_c^p l + phi_c / 2 pi)),   c = order[i],  0 <= i < C,  0 <= l < L
// and, with G the gradient of W and s[l] = -G[i, l] b[c, l] sin(...),
//   db[c, l] = G[i, l] cos(...)       dphi_c = sum_l s[l]       df_c = 2 pi p f_c^(p-1) sum_l l
//   s[l].
// A modulator with one row is shared: db[0, l] = sum_i G[i, l] cos(...).
//
// Phases are exact where it matters: f^p l + phi/2pi is formed in double once per vector of lanes
// and reduced to a fraction of a turn; inside the vector only small offsets are added in T.
#include <algorithm>
#include <vector>

#include "operands.h"
#include "turns.h"

#define RLSV_KERNEL_FILE "cpu/modulated_cosines.cpp"
#include "each_simd.h"
#include "simd.h"
#include "turns_vectors.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;

// The part of a turn in [-1/2, 1/2], formed in double. |turns| may be as large as 2^51.
RLSV_INLINE double reduced(double turns) {
  reduce_turns<double>(turns);
  return turns;
}

template <typename T>
struct VectorCarrier {
  double step;   // turns per tap, f^p
  double start;  // turns at tap 0
  Vec<T> ramp;   // fraction of a turn at taps 0 .. lanes-1, relative to the vector's first tap

  RLSV_INLINE VectorCarrier(T frequency, T phase, int64_t power) {
    step = power == 2 ? double(frequency) * double(frequency) : double(frequency);
    start = double(phase) / kTwoPi;
    T taps[kLanes<T>];
    for (int64_t lane = 0; lane < kLanes<T>; ++lane) taps[lane] = T(reduced(step * double(lane)));
    load(taps, ramp);
  }

  // Turns in [-1/2, 1/2] at taps `tap` .. tap + lanes - 1.
  RLSV_INLINE void at(int64_t tap, Vec<T>& turns) const {
    turns = ramp + T(reduced(step * double(tap) + start));
    reduce_turns<T>(turns);
  }
};

template <typename T>
struct Rows {
  const T *frequency, *phase, *modulator;
  const int64_t* order;
  int64_t components, taps, modulator_rows, power;

  RLSV_INLINE const T* modulator_row(int64_t component) const {
    return modulator + (modulator_rows == 1 ? 0 : component * taps);
  }
};

template <typename T>
RLSV_INLINE void forward_rows(const Rows<T>& in, T* weights, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t c = in.order[i];
    const VectorCarrier<T> carrier(in.frequency[c], in.phase[c], in.power);
    const T* envelope = in.modulator_row(c);
    T* row = weights + i * in.taps;
    for (int64_t tap = 0; tap < in.taps; tap += kLanes<T>) {
      Vec<T> turns, wave, gain;
      carrier.at(tap, turns);
      cosine<T>(turns, wave);
      load_part(envelope + tap, in.taps - tap, gain);
      store_part<T>(wave * gain, in.taps - tap, row + tap);
    }
  }
}

// Gradients of rows [begin, end); the modulator's only where it has a row per component.
template <typename T>
RLSV_INLINE void backward_rows(const Rows<T>& in, const T* grad, T* grad_frequency, T* grad_phase,
                               T* grad_modulator, int64_t begin, int64_t end) {
  T taps[kLanes<T>];
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) taps[lane] = T(lane);
  Vec<T> lane_index;
  load(taps, lane_index);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t c = in.order[i];
    const VectorCarrier<T> carrier(in.frequency[c], in.phase[c], in.power);
    const T* envelope = in.modulator_row(c);
    const T* upstream = grad + i * in.taps;
    Vec<T> by_phase = {}, by_step = {};
    for (int64_t tap = 0; tap < in.taps; tap += kLanes<T>) {
      const int64_t count = in.taps - tap;
      Vec<T> turns, wave, slope, gain, flow;
      carrier.at(tap, turns);
      load_part(upstream + tap, count, flow);
      load_part(envelope + tap, count, gain);
      if (in.modulator_rows != 1) {
        cosine<T>(turns, wave);
        store_part<T>(wave * flow, count, grad_modulator + c * in.taps + tap);
      }
      sine<T>(turns, slope);
      slope *= flow * gain;
      by_phase -= slope;
      by_step -= slope * (lane_index + T(tap));
    }
    const double chain = in.power == 2 ? 2.0 * double(in.frequency[c]) : 1.0;
    grad_phase[c] = sum<T>(by_phase);
    grad_frequency[c] = T(kTwoPi * chain * double(sum<T>(by_step)));
  }
}

// The shared modulator's gradient for the vectors [begin, end) of taps: rows added in order, in
// double, as there may be thousands.
template <typename T>
RLSV_INLINE void backward_shared(const Rows<T>& in, const T* grad, T* grad_modulator, int64_t begin,
                                 int64_t end) {
  const int64_t first = begin * kLanes<T>, last = std::min(end * kLanes<T>, in.taps);
  std::vector<double> totals(last - first, 0.0);
  for (int64_t i = 0; i < in.components; ++i) {
    const int64_t c = in.order[i];
    const VectorCarrier<T> carrier(in.frequency[c], in.phase[c], in.power);
    for (int64_t tap = first; tap < last; tap += kLanes<T>) {
      Vec<T> turns, wave, flow;
      T lanes[kLanes<T>];
      carrier.at(tap, turns);
      cosine<T>(turns, wave);
      load_part(grad + i * in.taps + tap, last - tap, flow);
      store<T>(wave * flow, lanes);
      const int64_t count = std::min(last - tap, kLanes<T>);
      for (int64_t lane = 0; lane < count; ++lane) totals[tap - first + lane] += lanes[lane];
    }
  }
  for (int64_t tap = first; tap < last; ++tap) grad_modulator[tap] = T(totals[tap - first]);
}

template <typename T>
Rows<T> rows(const Tensor& frequency, const Tensor& phase, const Tensor& modulator,
             const Tensor& order, int64_t power) {
  return {read<T>(frequency), read<T>(phase),    read<T>(modulator), read<int64_t>(order),
          frequency.size(0),  modulator.size(1), modulator.size(0),  power};
}

Tensor modulated_cosines_forward(const Tensor& frequency, const Tensor& phase,
                                 const Tensor& modulator, const Tensor& order, int64_t power) {
  check_modulated_cosines(frequency, phase, modulator, order);
  const int64_t components = frequency.size(0), taps = modulator.size(1);
  Tensor weights = torch::stable::new_empty(modulator, {components, taps});
  dispatch_floating(frequency, "modulated_cosines", [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> in = rows<T>(frequency, phase, modulator, order, power);
    T* out = write<T>(weights);
    parallel(components, taps,
             [&](int64_t begin, int64_t end) { forward_rows(in, out, begin, end); });
  });
  return weights;
}

std::tuple<Tensor, Tensor, Tensor> modulated_cosines_backward(const Tensor& grad,
                                                              const Tensor& frequency,
                                                              const Tensor& phase,
                                                              const Tensor& modulator,
                                                              const Tensor& order, int64_t power) {
  check_modulated_cosines_backward(grad, frequency, phase, modulator, order);
  const int64_t components = frequency.size(0), taps = modulator.size(1);
  Tensor grad_frequency = torch::stable::new_empty(frequency, {components});
  Tensor grad_phase = torch::stable::new_empty(phase, {components});
  Tensor grad_modulator = torch::stable::new_empty(modulator, {modulator.size(0), taps});
  if (components == 0) torch::stable::zero_(grad_modulator);
  dispatch_floating(frequency, "modulated_cosines", [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> in = rows<T>(frequency, phase, modulator, order, power);
    const T* upstream = read<T>(grad);
    T *by_frequency = write<T>(grad_frequency), *by_phase = write<T>(grad_phase),
      *by_modulator = write<T>(grad_modulator);
    parallel(components, 2 * taps, [&](int64_t begin, int64_t end) {
      backward_rows(in, upstream, by_frequency, by_phase, by_modulator, begin, end);
    });
    if (modulator.size(0) == 1) {
      const int64_t vectors = (taps + kLanes<T> - 1) / kLanes<T>;
      parallel(vectors, components * kLanes<T>, [&](int64_t begin, int64_t end) {
        backward_shared(in, upstream, by_modulator, begin, end);
      });
    }
  });
  return {grad_frequency, grad_phase, grad_modulator};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_modulated_cosines_forward", modulated_cosines_forward);
  RLSV_IMPL(m, "_modulated_cosines_backward", modulated_cosines_backward);
}
#endif
