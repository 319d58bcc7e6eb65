// What the CPU and CUDA kernels of all_pole share: sizes, and the weights of a frame's samples.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "turns.h"

namespace rlsv_fast {

constexpr int64_t kMostPoles = 64;  // of a filter: what kernels keep at hand

// signal (batch, frames * hop), coefficients (batch, frames, order); frames of `frame` samples.
struct PoleShape {
  int64_t batch, frames, order, frame, hop;

  RLSV_HOST_DEVICE int64_t rows() const { return batch * frames; }
  RLSV_HOST_DEVICE int64_t samples() const { return frames * hop; }
};

// The periodic Hann window.
template <typename T>
RLSV_HOST_DEVICE T hann(int64_t sample, int64_t frame) {
  const T root = sine_turns(T(sample) / T(2 * frame));
  return root * root;
}

// Nothing comes before the first frame: its first half is not faded in.
RLSV_HOST_DEVICE bool is_whole(int64_t first_frame, int64_t sample, int64_t frame) {
  return first_frame == 0 && 2 * sample < frame;
}

}  // namespace rlsv_fast
