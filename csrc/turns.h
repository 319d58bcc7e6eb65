// Cosines and sines of angles counted in turns: cos(2 pi t), sin(2 pi t).
//
// Counting in turns makes range reduction exact: subtract the nearest integer. What remains is one
// odd polynomial on a quarter turn, sin(2 pi u) = u q(u^2), |u| <= 1/4, reached by symmetry:
//   cos(2 pi t) = sin(2 pi (1/4 - |t|)),    sin(2 pi t) = sign(t) sin(2 pi min(|t|, 1/2 - |t|)).
// float: minimax, relative error 5.3e-9. double: Taylor to u^21, error 2e-18.
// Everything here is generic over scalars and vectors (V) with scalar type T.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace rlsv_fast {

// 1.5 * 2^(mantissa bits): adding and subtracting it rounds to the nearest integer, in any
// instruction set, as long as the compiler keeps the order of operations (no fast-math).
template <typename T>
struct Rounding;
template <>
struct Rounding<float> {
  static constexpr float kMagic = 12582912.0f;
};
template <>
struct Rounding<double> {
  static constexpr double kMagic = 6755399441055744.0;
};

// t minus its nearest integer, in [-1/2, 1/2], for |t| < 2^22 (float) or 2^51 (double).
template <typename T, typename V>
RLSV_HOST_DEVICE void reduce_turns(V& t) {
  const V nearest = (t + Rounding<T>::kMagic) - Rounding<T>::kMagic;
  t = t - nearest;
}

// sin(2 pi u) for |u| <= 1/4.
template <typename V>
RLSV_HOST_DEVICE void quarter_sine(const V& u, V& sine, float) {
  const V z = u * u;
  V q = z * 39.7109181108f - 76.5749921776f;
  q = q * z + 81.6022312425f;
  q = q * z - 41.3416774784f;
  q = q * z + 6.28318527379f;
  sine = u * q;
}
template <typename V>
RLSV_HOST_DEVICE void quarter_sine(const V& u, V& sine, double) {
  const V z = u * u;
  V q = z * 0.0011309237482517961878 - 0.012031585942120627233;
  q = q * z + 0.10422916220813984117;
  q = q * z - 0.71812230177850051223;
  q = q * z + 3.8199525848482821277;
  q = q * z - 15.094642576822990392;
  q = q * z + 42.058693944897653145;
  q = q * z - 76.705859753061385842;
  q = q * z + 81.605249276075054203;
  q = q * z - 41.341702240399760234;
  q = q * z + 6.2831853071795864769;
  sine = u * q;
}

// cos(2 pi t) and sin(2 pi t) for a scalar t in [-1/2, 1/2].
template <typename T>
RLSV_HOST_DEVICE T cosine_turns(T turns) {
  T cosine;
  quarter_sine(T(0.25) - std::fabs(turns), cosine, T(0));
  return cosine;
}
template <typename T>
RLSV_HOST_DEVICE T sine_turns(T turns) {
  const T magnitude = std::fabs(turns), rest = T(0.5) - magnitude;  // exact where it is less
  const T folded = magnitude < rest ? magnitude : rest;
  T sine;
  quarter_sine(std::copysign(folded, turns), sine, T(0));
  return sine;
}

// a b rounded to T: a product that no compiler may fuse with an addition, for sums of two T.
RLSV_HOST_DEVICE float rounded_product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
RLSV_HOST_DEVICE double rounded_product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

// The carrier of one component, tap by tap: the fraction of a turn f^p l + phi / 2 pi without a
// double. f^p is kept as an unevaluated sum of two T, its product with l is split into the rounded
// product and its exact error, and whole turns leave before the small parts are added.
template <typename T>
struct Carrier {
  T step, step_error, start;

  RLSV_HOST_DEVICE Carrier(T frequency, T phase, int64_t power)
      : step(power == 2 ? rounded_product(frequency, frequency) : frequency),
        step_error(power == 2 ? fused(frequency, frequency, -step) : T(0)),
        start(phase * T(0.15915494309189533577)) {
    reduce_turns<T>(start);
  }

  // In [-1/2, 1/2], for a whole number 0 <= tap < 2^22.
  RLSV_HOST_DEVICE T at(T tap) const {
    T turns = rounded_product(step, tap);
    const T rest = fused(step_error, tap, fused(step, tap, -turns));
    reduce_turns<T>(turns);
    turns = turns + (start + rest);
    reduce_turns<T>(turns);
    return turns;
  }

  RLSV_HOST_DEVICE static T fused(T a, T b, T c) { return std::fma(a, b, c); }
};

}  // namespace rlsv_fast
