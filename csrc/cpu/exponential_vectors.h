// 2^x and log2 x of vectors, around the polynomials that host and device share.
#if defined(RLSV_EXPONENTIAL_VECTORS_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_EXPONENTIAL_VECTORS_H)
#undef RLSV_EXPONENTIAL_VECTORS_H
#else
#define RLSV_EXPONENTIAL_VECTORS_H
#endif

#include "exponential.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {

// Bits of lanes whose results are masked out may overflow, which only unsigned ones are free to do.
template <typename T>
struct UnsignedBitsOf {
  typedef Bits<T> type __attribute__((vector_size(RLSV_VECTOR_BYTES)));
};
template <typename T>
using UnsignedBits = typename UnsignedBitsOf<T>::type;

template <typename T>
RLSV_INLINE void greater(const Vec<T>& first, const Vec<T>& second, Vec<T>& result) {
  result = first > second ? first : second;
}

// 2^x for x below the greatest exponent; 0 below `lowest` (at least -126, or -1022 in double: no
// denormal numbers, which are slow). x must not be NaN; -inf gives 0.
template <typename T>
RLSV_INLINE void exp2_uncapped(const Vec<T>& x, T lowest, Vec<T>& power) {
  // Adding the magic number leaves round(x) in the low bits: shifted, they add to the exponent.
  const Vec<T> magic = x + Rounding<T>::kMagic;
  const Vec<T> r = x - (magic - Rounding<T>::kMagic);
  Vec<T> fraction;
  octave_power(r, fraction, T(0));
  const UnsignedBits<T> bits =
      (UnsignedBits<T>)fraction + ((UnsignedBits<T>)magic << Exponent<T>::kShift);
  power = x < lowest ? Vec<T>{} : (Vec<T>)bits;
}

// The same for any x: no more than the greatest power of two.
template <typename T>
RLSV_INLINE void exp2(const Vec<T>& x, T lowest, Vec<T>& power) {
  exp2_uncapped<T>(x < Exponent<T>::kHighest ? x : Vec<T>{} + Exponent<T>::kHighest, lowest, power);
}

// log2 x for normal positive x; -inf for smaller ones and 0.
template <typename T>
RLSV_INLINE void log2(const Vec<T>& x, Vec<T>& logarithm) {
  const UnsignedBits<T> bits = (UnsignedBits<T>)x;
  const Mask<T> exponent = (Mask<T>)(bits - Exponent<T>::kRootHalf) >> Exponent<T>::kShift;
  const Vec<T> m = (Vec<T>)(bits - ((UnsignedBits<T>)exponent << Exponent<T>::kShift));
  const Vec<T> whole = (Vec<T>)(exponent + Exponent<T>::kMagicBits) - Rounding<T>::kMagic;
  const Vec<T> s = (m - T(1)) / (m + T(1));
  Vec<T> fraction;
  octave_logarithm(s, fraction, T(0));
  logarithm = x < std::numeric_limits<T>::min() ? Vec<T>{} - std::numeric_limits<T>::infinity()
                                                : whole + fraction;
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
