// Phases, counts of audible harmonics and trigonometry for vectors of samples of harmonic_bank.
#if defined(RLSV_HARMONIC_BANK_VECTORS_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_HARMONIC_BANK_VECTORS_H)
#undef RLSV_HARMONIC_BANK_VECTORS_H
#else
#define RLSV_HARMONIC_BANK_VECTORS_H
#endif

#include "harmonic_bank_rules.h"
#include "simd.h"
#include "turns_vectors.h"

namespace rlsv_fast::RLSV_PASS {

// Whole numbers of the width of T: integers for float, whole doubles for double.
template <typename T>
using Whole = typename Angle<T>::type;
template <typename T>
struct WholesOf {
  typedef Whole<T> type __attribute__((vector_size(RLSV_VECTOR_BYTES)));
};
template <typename T>
using Wholes = typename WholesOf<T>::type;

template <typename T>
RLSV_INLINE void load_wholes(const Whole<T>* from, Wholes<T>& to) {
  std::memcpy(&to, from, sizeof(to));
}

// `number` times an angle, in turns in [-1/2, 1/2].
RLSV_INLINE void times(const Wholes<float>& number, const Wholes<float>& angle, Vec<float>& turns) {
  typedef uint32_t Wrapping __attribute__((vector_size(RLSV_VECTOR_BYTES)));
  const Wholes<float> product = (Wholes<float>)((Wrapping)number * (Wrapping)angle);
  turns = __builtin_convertvector(product, Vec<float>) * 2.3283064365386962891e-10f;
}
RLSV_INLINE void times(const Wholes<double>& number, const Wholes<double>& angle,
                       Vec<double>& turns) {
  turns = number * angle;
  reduce_turns<double>(turns);
}

RLSV_INLINE void halve(const Wholes<float>& angle, Wholes<float>& half) { half = angle >> 1; }
RLSV_INLINE void halve(const Wholes<double>& angle, Wholes<double>& half) { half = 0.5 * angle; }

// The sine of `number` times an angle.
template <typename T>
RLSV_INLINE void sine_of(const Wholes<T>& number, const Wholes<T>& angle, Vec<T>& result) {
  Vec<T> turns;
  times(number, angle, turns);
  sine<T>(turns, result);
}

// Adds a vector of e, of samples from `at` on, to e, e (u + 1) and e u (u + 1) / 2.
template <typename T>
RLSV_INLINE void add_moments(const Vec<T>& e, int64_t at, Vec<double>* total) {
  T lanes[kLanes<T>];
  double place[kLanes<double>];
  store(e, lanes);
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) place[lane] = double(at + lane);
  Vec<double> u;
  load(place, u);
  for (int64_t lane = 0; lane < kLanes<T>; lane += kLanes<double>, u += double(kLanes<double>)) {
    Vec<double> part;
    widen(lanes + lane, part);
    total[0] += part;
    part *= u + 1.0;
    total[1] += part;
    total[2] += part * (0.5 * u);
  }
}

constexpr int64_t kRun = 128;  // samples whose phases and counts are made at once

// Up to kRun samples of a piece. Beyond them all is 0.
template <typename T>
struct Run {
  Whole<T> angle[kRun], count[kRun];  // audible harmonics at each sample
  int64_t most;                       // the greatest count of the piece

  RLSV_INLINE void make(const BankShape& shape, const BankPiece& piece, int64_t first,
                        int64_t length) {
    Turns phase = piece.phase(first), step = piece.step + piece.bend * Turns(first + 1);
    for (int64_t u = 0; u < length; ++u, phase += step, step += piece.bend)
      angle[u] = Angle<T>::of(phase);
    const int64_t padded = (length + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
    for (int64_t u = length; u < padded; ++u) angle[u] = count[u] = 0;

    most = piece.first_count > piece.last_count ? piece.first_count : piece.last_count;
    if (piece.first_count == piece.last_count) {
      for (int64_t u = 0; u < length; ++u) count[u] = Whole<T>(most);
      return;
    }
    double numbers[kRun + kLanes<double>];
    const double all = double(shape.harmonics);
    for (int64_t u = 0; u < length; u += kLanes<double>) {
      double lanes[kLanes<double>];
      for (int64_t lane = 0; lane < kLanes<double>; ++lane)
        lanes[lane] = piece.at(first + u + lane);
      Vec<double> f;
      load(lanes, f);
      const Vec<double> quotient = shape.nyquist() / f;
      Vec<double> number = (quotient + Rounding<double>::kMagic) - Rounding<double>::kMagic;
      number = number < quotient ? number : number - 1.0;  // below the quotient
      const Mask<double> some = (quotient > 0.0) & (quotient <= all);
      number = some ? number : Vec<double>{} + all;
      store<double>(number, numbers + u);
    }
    for (int64_t u = 0; u < length; ++u) count[u] = Whole<T>(numbers[u]);
  }
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
