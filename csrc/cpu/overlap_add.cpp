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
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr int64_t kBlock = 2048;

template <typename T>
RLSV_INLINE void add_segment(const T* from, int64_t count, double* to) {
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> segment, total;
    widen_part(from + i, count - i, segment);
    load_part(to + i, count - i, total);
    store_part<double>(total + segment, count - i, to + i);
  }
}

template <typename T>
RLSV_INLINE void write_segment(const double* from, int64_t count, T* to) {
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> segment;
    load_part(from + i, count - i, segment);
    narrow_part(segment, count - i, to + i);
  }
}

// Outputs at the positions [begin, end) of the support, position 0 being tap 0 of frame 0.
template <typename T>
RLSV_INLINE void gather_block(const T* frames, int64_t count, int64_t taps, int64_t hop,
                              int64_t begin, int64_t end, T* out) {
  double totals[kBlock] = {};
  const int64_t first = begin < taps ? 0 : (begin - taps) / hop + 1;
  for (int64_t t = first; t < count && t * hop < end; ++t) {
    const int64_t from = std::max(begin, t * hop), to = std::min(end, t * hop + taps);
    add_segment(frames + t * taps + (from - t * hop), to - from, totals + (from - begin));
  }
  write_segment(totals, end - begin, out);
}

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
    const int64_t blocks = (length + kBlock - 1) / kBlock;
    const int64_t cost = (taps / hop + 2) * kBlock / kLanes<double>;
    parallel(batch * blocks, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t item = i / blocks, sample = i % blocks * kBlock;
        gather_block(in + item * count * taps, count, taps, hop, sample + offset,
                     std::min(sample + kBlock, length) + offset, out + item * length + sample);
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
