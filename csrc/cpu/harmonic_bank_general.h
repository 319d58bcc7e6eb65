// An amplitude for every harmonic (see harmonic_bank.cpp): sines and cosines of the multiples of a
// phase by rotation, in registers, begun anew every kAnchor harmonics so that errors do not grow.
#if defined(RLSV_HARMONIC_BANK_GENERAL_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_HARMONIC_BANK_GENERAL_H)
#undef RLSV_HARMONIC_BANK_GENERAL_H
#else
#define RLSV_HARMONIC_BANK_GENERAL_H
#endif

#include "harmonic_bank_vectors.h"

namespace rlsv_fast::RLSV_PASS {

constexpr int64_t kAnchor = 8;

// Calls body(k, sine, cosine) for k = 1 .. most with those of k times the phases.
template <typename T, typename Body>
RLSV_INLINE void each_harmonic(const Wholes<T>& angle, int64_t most, const Body& body) {
  const auto wave = [&](int64_t number, Vec<T>& s, Vec<T>& c) {
    Vec<T> turns;
    times(Wholes<T>{} + Whole<T>(number), angle, turns);
    sine<T>(turns, s);
    cosine<T>(turns, c);
  };
  Vec<T> s1, c1;
  wave(1, s1, c1);
  for (int64_t first = 1; first <= most; first += kAnchor) {
    Vec<T> s = s1, c = c1;
    if (first > 1) wave(first, s, c);
    const int64_t end = first + kAnchor < most + 1 ? first + kAnchor : most + 1;
    for (int64_t k = first; k < end; ++k) {
      body(k, s, c);
      const Vec<T> turned = s * c1 + c * s1;
      c = c * c1 - s * s1;
      s = turned;
    }
  }
}

// 0 where harmonic k is not audible.
template <typename T>
RLSV_INLINE void cut(const Wholes<T>& counts, int64_t k, Vec<T>& value) {
  value = counts < Whole<T>(k) ? Vec<T>{} : value;
}

// here[k - 1] and later[k - 1] are harmonic k's amplitudes at the frame and the next, 0 where it is
// not audible there, and `most` harmonics are at either.
template <typename T>
RLSV_INLINE void general_forward(const Run<T>& run, int64_t length, const T* here, const T* later,
                                 int64_t most, const T* rise, T* signal) {
  most = most < run.most ? most : run.most;
  for (int64_t u = 0; u < length; u += kLanes<T>) {
    Wholes<T> angle, counts;
    load_wholes<T>(run.angle + u, angle);
    load_wholes<T>(run.count + u, counts);
    Vec<T> fade, falling = {}, rising = {};
    load_part(rise + u, length - u, fade);
    each_harmonic<T>(angle, most, [&](int64_t k, Vec<T> s, const Vec<T>&) {
      cut<T>(counts, k, s);
      falling += s * here[k - 1];
      rising += s * later[k - 1];
    });
    store_part<T>(falling + fade * (rising - falling), length - u, signal + u);
  }
}

// Adds to the sums of the run's piece, and to the derivatives by here[k - 1], of which `vectors`
// holds a vector for each k, and by later[k - 1], which follow. Harmonics above `most` are 0.
template <typename T>
RLSV_INLINE void general_backward(const Run<T>& run, int64_t at, int64_t length, const T* here,
                                  const T* later, int64_t most, const T* rise, const T* grad,
                                  BankSums& sums, T* vectors, int64_t harmonics) {
  most = most < run.most ? most : run.most;
  Vec<double> total[3] = {};
  for (int64_t u = 0; u < length; u += kLanes<T>) {
    Wholes<T> angle, counts;
    load_wholes<T>(run.angle + u, angle);
    load_wholes<T>(run.count + u, counts);
    Vec<T> fade, flow, by_here = {}, by_later = {};
    load_part(rise + u, length - u, fade);
    load_part(grad + u, length - u, flow);
    const Vec<T> falling = flow * (T(1) - fade), rising = flow * fade;
    each_harmonic<T>(angle, most, [&](int64_t k, Vec<T> s, Vec<T> c) {
      cut<T>(counts, k, s);
      cut<T>(counts, k, c);
      c *= T(k);
      by_here += c * here[k - 1];
      by_later += c * later[k - 1];
      T* const sum = vectors + (k - 1) * kLanes<T>;
      T* const next = sum + harmonics * kLanes<T>;
      Vec<T> before;
      load(sum, before);
      store<T>(before + s * falling, sum);
      load(next, before);
      store<T>(before + s * rising, next);
    });
    add_moments<T>(falling * by_here + rising * by_later, at + u, total);
  }
  sums.e += sum<double>(total[0]);
  sums.first += sum<double>(total[1]);
  sums.second += sum<double>(total[2]);
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
