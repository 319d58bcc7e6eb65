// Output samples gathered from frames: sums in double, each written once.
#if defined(RLSV_GATHER_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_GATHER_H)
#undef RLSV_GATHER_H
#else
#define RLSV_GATHER_H
#endif

#include "simd.h"

namespace rlsv_fast::RLSV_PASS {

constexpr int64_t kGathered = 2048;  // outputs that are summed at once

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
RLSV_INLINE void add_weighted(const T* from, const double* weight, int64_t count, double* to) {
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> segment, factor, total;
    widen_part(from + i, count - i, segment);
    load_part(weight + i, count - i, factor);
    load_part(to + i, count - i, total);
    store_part<double>(total + segment * factor, count - i, to + i);
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

// Outputs at the positions [begin, end), at most kGathered, position 0 being tap 0 of frame 0.
// add(frame, tap, count, to) adds so many taps of a frame; frames come in ascending order.
template <typename T, typename Add>
RLSV_INLINE void gather_block(int64_t count, int64_t taps, int64_t hop, int64_t begin, int64_t end,
                              const Add& add, T* out) {
  double totals[kGathered] = {};
  const int64_t first = begin < taps ? 0 : (begin - taps) / hop + 1;
  for (int64_t t = first; t < count && t * hop < end; ++t) {
    const int64_t from = begin < t * hop ? t * hop : begin;
    const int64_t to = end < t * hop + taps ? end : t * hop + taps;
    add(t, from - t * hop, to - from, totals + (from - begin));
  }
  write_segment(totals, end - begin, out);
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
