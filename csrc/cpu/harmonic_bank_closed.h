// One amplitude for all harmonics (see harmonic_bank.cpp): sums of sines in closed form. With
// half = phase / 2 and s = sin(half),
//   D_K  = sum_{k <= K} sin(k phase)   = sin(K half) sin((K + 1) half) / s
//   D'_K = sum_{k <= K} k cos(k phase) = ((K + 1/2) sin((2 K + 1) half) / s - 1/2
//                                         - D_K cos(half) / s) / 2
// and D_K = 0, D'_K = K (K + 1) / 2 where s = 0. Every sine is exact relative to itself, the
// multiples of half being exact, and so are the quotients near s = 0.
#if defined(RLSV_HARMONIC_BANK_CLOSED_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_HARMONIC_BANK_CLOSED_H)
#undef RLSV_HARMONIC_BANK_CLOSED_H
#else
#define RLSV_HARMONIC_BANK_CLOSED_H
#endif

#include "harmonic_bank_vectors.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T>
struct Dirichlet {
  Wholes<T> half;
  decltype(Wholes<T>{} == Wholes<T>{}) zero;
  Vec<T> cosine_half, inverse;  // 1 / s, infinite where it is 0

  RLSV_INLINE explicit Dirichlet(const Wholes<T>& angle) {
    halve(angle, half);
    zero = half == 0;
    Vec<T> turns, sine_half;
    times(Wholes<T>{} + 1, half, turns);
    sine<T>(turns, sine_half);
    cosine<T>(turns, cosine_half);
    inverse = T(1) / sine_half;
  }
  RLSV_INLINE void value(const Wholes<T>& count, Vec<T>& sum) const {
    Vec<T> first, second;
    sine_of<T>(count, half, first);
    sine_of<T>(count + 1, half, second);
    sum = zero ? Vec<T>{} : first * inverse * second;
  }
  // The derivative by the phase, beside the value.
  RLSV_INLINE void slope(const Wholes<T>& count, const Vec<T>& value, Vec<T>& slope) const {
    Vec<T> odd;
    sine_of<T>(count + count + 1, half, odd);
    const Vec<T> number = __builtin_convertvector(count, Vec<T>);
    slope = T(0.5) * ((number + T(0.5)) * odd * inverse - T(0.5) - value * cosine_half * inverse);
    slope = zero ? T(0.5) * number * (number + T(1)) : slope;
  }
};

// The amplitude of a frame and its number of audible harmonics, over which it is spread evenly.
template <typename T>
struct Spread {
  T gain;
  Whole<T> count;

  RLSV_INLINE Spread(T amplitude, int64_t audible)
      : gain(T(audible > 0 ? double(amplitude) / double(audible) : 0.0)),
        count(Whole<T>(audible)) {}
};

template <typename T>
RLSV_INLINE void fewer(const Wholes<T>& counts, Whole<T> count, Wholes<T>& result) {
  result = counts < count ? counts : Wholes<T>{} + count;
}

// `rise` is the window by which the next frame fades in.
template <typename T>
RLSV_INLINE void closed_forward(const Run<T>& run, int64_t length, const Spread<T>& here,
                                const Spread<T>& later, const T* rise, T* signal) {
  const bool same = here.count == later.count;
  for (int64_t u = 0; u < length; u += kLanes<T>) {
    Wholes<T> angle, counts, first, second;
    load_wholes<T>(run.angle + u, angle);
    load_wholes<T>(run.count + u, counts);
    fewer<T>(counts, here.count, first);
    fewer<T>(counts, later.count, second);
    const Dirichlet<T> kernel(angle);
    Vec<T> fade, sum, next;
    load_part(rise + u, length - u, fade);
    kernel.value(first, sum);
    next = sum;
    if (!same) kernel.value(second, next);
    store_part<T>(here.gain * (T(1) - fade) * sum + later.gain * fade * next, length - u,
                  signal + u);
  }
}

// Adds to the sums of the run's piece, of which it begins at sample `at`.
template <typename T>
RLSV_INLINE void closed_backward(const Run<T>& run, int64_t at, int64_t length,
                                 const Spread<T>& here, const Spread<T>& later, const T* rise,
                                 const T* grad, BankSums& sums) {
  const bool same = here.count == later.count;
  Vec<double> total[5] = {};
  for (int64_t u = 0; u < length; u += kLanes<T>) {
    Wholes<T> angle, counts, first, second;
    load_wholes<T>(run.angle + u, angle);
    load_wholes<T>(run.count + u, counts);
    fewer<T>(counts, here.count, first);
    fewer<T>(counts, later.count, second);
    const Dirichlet<T> kernel(angle);
    Vec<T> fade, flow, sum, next, slope, next_slope;
    load_part(rise + u, length - u, fade);
    load_part(grad + u, length - u, flow);
    kernel.value(first, sum);
    kernel.slope(first, sum, slope);
    next = sum;
    next_slope = slope;
    if (!same) {
      kernel.value(second, next);
      kernel.slope(second, next, next_slope);
    }
    const Vec<T> falling = flow * (T(1) - fade), rising = flow * fade;
    add_moments<T>(falling * here.gain * slope + rising * later.gain * next_slope, at + u, total);
    add_lanes<T>(falling * sum, total[3]);
    add_lanes<T>(rising * next, total[4]);
  }
  sums.e += sum<double>(total[0]);
  sums.first += sum<double>(total[1]);
  sums.second += sum<double>(total[2]);
  sums.here += sum<double>(total[3]);
  sums.later += sum<double>(total[4]);
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
