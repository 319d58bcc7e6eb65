// Cosines and sines of vectors of angles in turns, around the polynomials that host and device
// share.
#if defined(RLSV_TURNS_VECTORS_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_TURNS_VECTORS_H)
#undef RLSV_TURNS_VECTORS_H
#else
#define RLSV_TURNS_VECTORS_H
#endif

#include "simd.h"
#include "turns.h"

namespace rlsv_fast::RLSV_PASS {

// For turns in [-1/2, 1/2]. Sines are exact relative to themselves, also near 0.
template <typename T>
RLSV_INLINE void cosine(const Vec<T>& turns, Vec<T>& result) {
  Vec<T> magnitude;
  absolute<T>(turns, magnitude);
  quarter_sine(T(0.25) - magnitude, result, T(0));
}
template <typename T>
RLSV_INLINE void sine(const Vec<T>& turns, Vec<T>& result) {
  Vec<T> magnitude, folded;
  absolute<T>(turns, magnitude);
  folded = T(0.5) - magnitude;
  folded = magnitude < folded ? magnitude : folded;
  quarter_sine<Vec<T>>(turns < T(0) ? -folded : folded, result, T(0));
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
