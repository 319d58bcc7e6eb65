// Frames of a signal and their overlap-add, adjoint to each other (hop S, offset o):
//   frames:       F[b, t, l] = x[b, t S + l - o]                    0 outside the signal
//   overlap_add:  y[b, n] = sum_{t, l : t S + l - o = n} F[b, t, l]    0 <= t < T, 0 <= l < L
// overlap_add gathers: blocks of output samples are summed in double, frames in ascending order,
// and written once, whichever thread does it.
#include <algorithm>
#include <cstring>

#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/overlap_add.cpp"
#include "each_simd.h"
#include "gather.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

Tensor frames(const Tensor& signal, int64_t taps, int64_t hop, int64_t count, int64_t offset) {
  check_frames(signal, taps, hop, count);
  const int64_t batch = signal.size(0), samples = signal.size(1);
  Tensor result = torch::stable::new_empty(signal, {batch, count, taps});
  if (result.numel() == 0) return result;
  dispatch_floating(signal, "frames", [&](auto zero) {
    using T = decltype(zero);
    const T* in = read<T>(signal);
    T* out = write<T>(result);
    parallel(batch * count, taps / kLanes<T> + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t start = i % count * hop - offset;  // sample of tap 0
        const int64_t low = std::clamp<int64_t>(-start, 0, taps);
        const int64_t high = std::clamp<int64_t>(samples - start, low, taps);
        T* row = out + i * taps;
        std::fill(row, row + low, T(0));
        if (high > low)
          std::memcpy(row + low, in + i / count * samples + start + low, (high - low) * sizeof(T));
        std::fill(row + high, row + taps, T(0));
      }
    });
  });
  return result;
}

Tensor overlap_add(const Tensor& frames, int64_t hop, int64_t length, int64_t offset) {
  check_overlap_add(frames, hop, length);
  const int64_t batch = frames.size(0), count = frames.size(1), taps = frames.size(2);
  Tensor result = torch::stable::new_empty(frames, {batch, length});
  if (result.numel() == 0) return result;
  dispatch_floating(frames, "overlap_add", [&](auto zero) {
    using T = decltype(zero);
    const T* in = read<T>(frames);
    T* out = write<T>(result);
    const int64_t blocks = (length + kGathered - 1) / kGathered;
    const int64_t cost = (taps / hop + 2) * kGathered / kLanes<double>;
    parallel(batch * blocks, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t item = i / blocks, sample = i % blocks * kGathered;
        const T* from = in + item * count * taps;
        const auto add = [&](int64_t t, int64_t tap, int64_t size, double* to) {
          add_segment(from + t * taps + tap, size, to);
        };
        gather_block(count, taps, hop, sample + offset,
                     std::min(sample + kGathered, length) + offset, add,
                     out + item * length + sample);
      }
    });
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_frames", frames);
  RLSV_IMPL(m, "_overlap_add", overlap_add);
}
#endif
