// Powers of two and logarithms to base 2, as polynomials on one octave:
//   2^x = 2^n 2^r,  n = round(x), |r| <= 1/2          log2 x = e + s q(s^2),  x = 2^e m,
//   s = (m - 1) / (m + 1),  m in [sqrt(1/2), sqrt(2))
// Chebyshev interpolants; relative error 5e-9 and 7e-10 for float, 1e-19 and 8e-21 for double.
// Shared by host and device; the host's vectors around them are in cpu/exponential_vectors.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "turns.h"

namespace rlsv_fast {

// Where a number keeps its exponent, and the numbers around which ranges are reduced.
template <typename T>
struct Exponent;
template <>
struct Exponent<float> {
  typedef int32_t Bits;
  static constexpr int32_t kShift = 23, kMagicBits = 0x4B400000, kRootHalf = 0x3F3504F3;
  static constexpr float kHighest = 127.0f, kSmallest = 1.17549435e-38f;  // smallest normal
};
template <>
struct Exponent<double> {
  typedef int64_t Bits;
  static constexpr int64_t kShift = 52, kMagicBits = 0x4338000000000000,
                           kRootHalf = 0x3FE6A09E667F3BCD;
  static constexpr double kHighest = 1023.0, kSmallest = 2.2250738585072014e-308;
};

// (2^r - 1) / r for |r| <= 1/2, with relative accuracy.
template <typename V>
RLSV_HOST_DEVICE void octave_growth(const V& r, V& q, float) {
  q = r * 0.000154531629451f + 0.00133908633647f;
  q = q * r + 0.00961808255728f;
  q = q * r + 0.0555035711422f;
  q = q * r + 0.240226507606f;
  q = q * r + 0.693147188026f;
}
template <typename V>
RLSV_HOST_DEVICE void octave_growth(const V& r, V& q, double) {
  q = r * 2.5729324177362304214e-11 + 4.455817908336064493e-10;
  q = q * r + 7.0548973041554992774e-9;
  q = q * r + 1.0178057087733941105e-7;
  q = q * r + 1.321548680870556279e-6;
  q = q * r + 0.000015252733841556772589;
  q = q * r + 0.00015403530393370733411;
  q = q * r + 0.0013333558146406470697;
  q = q * r + 0.0096181291076284794928;
  q = q * r + 0.055504108664821627039;
  q = q * r + 0.24022650695910071233;
  q = q * r + 0.69314718055994530925;
}

// 2^r for |r| <= 1/2; exactly 1 at 0.
template <typename V, typename T>
RLSV_HOST_DEVICE void octave_power(const V& r, V& power, T) {
  V q;
  octave_growth(r, q, T(0));
  power = q * r + T(1);
}

// log2((1 + s) / (1 - s)) for |s| <= (sqrt(2) - 1) / (sqrt(2) + 1); relative accuracy also near 0.
template <typename V>
RLSV_HOST_DEVICE void octave_logarithm(const V& s, V& logarithm, float) {
  const V z = s * s;
  V q = z * 0.431717697459f + 0.576715186019f;
  q = q * z + 0.961798838802f;
  q = q * z + 2.8853900798f;
  logarithm = q * s;
}
template <typename V>
RLSV_HOST_DEVICE void octave_logarithm(const V& s, V& logarithm, double) {
  const V z = s * s;
  V q = z * 0.19133171202266565708 + 0.19113924798420680804;
  q = q * z + 0.22198980761494066452;
  q = q * z + 0.26230754806401315372;
  q = q * z + 0.3205989045353651296;
  q = q * z + 0.41219858307348607593;
  q = q * z + 0.57707801635569347752;
  q = q * z + 0.96179669392597548546;
  q = q * z + 2.8853900817779268147;
  logarithm = q * s;
}

template <typename To, typename From>
RLSV_HOST_DEVICE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// 2^x of one number; 0 below `lowest` (at least -126, or -1022 in double) and for NaN no promise;
// no more than the greatest power of two. As exp2 in cpu/exponential_vectors.h.
template <typename T>
RLSV_HOST_DEVICE T power_of_two(T x, T lowest) {
  using Bits = typename Exponent<T>::Bits;
  using Unsigned = std::make_unsigned_t<Bits>;
  const T capped = x < Exponent<T>::kHighest ? x : Exponent<T>::kHighest;
  const T magic = capped + Rounding<T>::kMagic;
  T fraction;
  octave_power(capped - (magic - Rounding<T>::kMagic), fraction, T(0));
  const Unsigned bits =
      same_bits<Unsigned>(fraction) + (same_bits<Unsigned>(magic) << Exponent<T>::kShift);
  return x < lowest ? T(0) : same_bits<T>(bits);
}

// log2 x for a normal positive x; -inf for smaller ones and 0. As log2 there.
template <typename T>
RLSV_HOST_DEVICE T logarithm(T x) {
  using Bits = typename Exponent<T>::Bits;
  const Bits bits = same_bits<Bits>(x);
  const Bits exponent = (bits - Exponent<T>::kRootHalf) >> Exponent<T>::kShift;
  const T m = same_bits<T>(bits - exponent * (Bits(1) << Exponent<T>::kShift));
  const T whole = same_bits<T>(exponent + Exponent<T>::kMagicBits) - Rounding<T>::kMagic;
  T fraction;
  octave_logarithm((m - T(1)) / (m + T(1)), fraction, T(0));
  return x < Exponent<T>::kSmallest ? -T(INFINITY) : whole + fraction;
}

}  // namespace rlsv_fast
