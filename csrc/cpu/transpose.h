// Square blocks of numbers, as many vectors as a vector has lanes, transposed in registers.
#if defined(RLSV_TRANSPOSE_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_TRANSPOSE_H)
#undef RLSV_TRANSPOSE_H
#else
#define RLSV_TRANSPOSE_H
#endif

#include "simd.h"

namespace rlsv_fast::RLSV_PASS {

#if !defined(__clang__)
// Exchanges the blocks off the diagonal of every 2 x 2 blocks of `side` lanes, in two rows.
template <typename T, int64_t side>
RLSV_INLINE void exchange(Vec<T>& upper, Vec<T>& lower) {
  Mask<T> even, odd;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
    const bool second = lane / side % 2 == 1;
    even[lane] = second ? kLanes<T> + lane - side : lane;
    odd[lane] = second ? kLanes<T> + lane : lane + side;
  }
  const Vec<T> first = upper;
  upper = __builtin_shuffle(first, lower, even);
  lower = __builtin_shuffle(first, lower, odd);
}
#endif

// Transposes a block of kLanes vectors.
template <typename T, int64_t side = kLanes<T> / 2>
RLSV_INLINE void transpose(Vec<T> (&block)[kLanes<T>]) {
#if defined(__clang__)
  for (int64_t i = 0; i < kLanes<T>; ++i)
    for (int64_t j = 0; j < i; ++j) {
      const T upper = block[j][i];
      block[j][i] = block[i][j];
      block[i][j] = upper;
    }
#else
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes<T>; ++i)
    if (i / side % 2 == 0) exchange<T, side>(block[i], block[i + side]);
  if constexpr (side > 1) transpose<T, side / 2>(block);
#endif
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
