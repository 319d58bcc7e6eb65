// What host and device agree on about harmonic_bank: half frames on which f0 is linear, phases in
// fixed point, harmonics below half the sampling rate.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace rlsv_fast {

// A fraction of a turn in units of 2^-64. Sums and products with whole numbers wrap by themselves
// and are exact, in any order.
typedef uint64_t Turns;

// 0 for what is not finite.
RLSV_HOST_DEVICE Turns fixed_turns(double turns) {
  if (!(std::fabs(turns) <= 1e300)) return 0;
  const double fraction = (turns - std::rint(turns)) * 4294967296.0, high = std::rint(fraction);
  return (Turns(int64_t(high)) << 32) + Turns(int64_t((fraction - high) * 4294967296.0));
}

// In [-1/2, 1/2].
RLSV_HOST_DEVICE double floating_turns(Turns turns) {
  return double(int64_t(turns)) * 5.421010862427522170e-20;
}

// A phase as kernels multiply it with the number of a harmonic: turns in units of 2^-32, which wrap
// as well, for float; turns in [-1/2, 1/2] for double.
template <typename T>
struct Angle;
template <>
struct Angle<float> {
  typedef int32_t type;
  RLSV_HOST_DEVICE static type of(Turns turns) {
    return int32_t(uint32_t((turns + 0x80000000u) >> 32));
  }
};
template <>
struct Angle<double> {
  typedef double type;
  RLSV_HOST_DEVICE static type of(Turns turns) { return floating_turns(turns); }
};

struct BankShape {
  int64_t batch, frames, hop, harmonics;
  double rate;

  RLSV_HOST_DEVICE double nyquist() const { return 0.5 * rate; }
  // Half frames of an item. Of frame i, 2 i lies before its middle and 2 i + 1 from there on.
  RLSV_HOST_DEVICE int64_t pieces() const { return 2 * frames; }
  RLSV_HOST_DEVICE int64_t begin(int64_t piece) const { return piece % 2 ? hop / 2 : 0; }
  RLSV_HOST_DEVICE int64_t length(int64_t piece) const {
    return piece % 2 ? hop - hop / 2 : hop / 2;
  }
  // The frames between which a piece interpolates; the border frames are held.
  RLSV_HOST_DEVICE int64_t lower(int64_t piece) const {
    return piece % 2 || piece == 0 ? piece / 2 : piece / 2 - 1;
  }
  RLSV_HOST_DEVICE int64_t upper(int64_t piece) const {
    return piece % 2 && piece + 1 < pieces() ? piece / 2 + 1 : piece / 2;
  }
  // Sample u of a piece has f = (1 - r) f_lower + r f_upper with r = share(piece) + u / hop.
  RLSV_HOST_DEVICE double share(int64_t piece) const {
    return double(2 * begin(piece) + 1 + (piece % 2 ? -hop : hop)) / double(2 * hop);
  }
};

// How many of the harmonics 1, 2, ... lie below `nyquist`; all of them where f is not positive.
RLSV_HOST_DEVICE int64_t audible(double f, double nyquist, int64_t harmonics) {
  const double quotient = nyquist / f;
  if (!(quotient > 0.0 && quotient <= double(harmonics))) return harmonics;
  const int64_t count = int64_t(std::ceil(quotient)) - 1;
  // A rounded quotient decides no differently than the product does.
  if (double(count + 1) * f < nyquist) return count + 1;
  return count > 0 && !(double(count) * f < nyquist) ? count - 1 : count;
}

// f = frequency + slope u, phase = start + step (u + 1) + bend u (u + 1) / 2 at sample u.
struct BankPiece {
  Turns start, step, bend;
  double frequency, slope;
  double poison;  // 0; NaN from the first f0 on that is not finite
  // Audible harmonics at f_i, and at the first and the last sample: between them it is monotonous.
  int32_t frame_count, first_count, last_count;

  RLSV_HOST_DEVICE double at(int64_t u) const { return frequency + slope * double(u); }
  RLSV_HOST_DEVICE Turns phase(int64_t u) const {
    const Turns at = Turns(u);
    return start + step * (at + 1) + bend * (at * (at + 1) / 2);
  }
  RLSV_HOST_DEVICE Turns advance(int64_t length) const {
    return length > 0 ? phase(length - 1) - start : 0;
  }
};

// Without what comes from the pieces before: start is 0, and poison its own.
template <typename T>
RLSV_HOST_DEVICE BankPiece make_piece(const T* f0, const BankShape& shape, int64_t index) {
  const double low = double(f0[shape.lower(index)]), rise = double(f0[shape.upper(index)]) - low;
  const int64_t length = shape.length(index);
  const auto count = [&](double f) {
    return int32_t(audible(f, shape.nyquist(), shape.harmonics));
  };
  BankPiece piece{};
  piece.frequency = low + rise * shape.share(index);
  piece.slope = rise / double(shape.hop);
  piece.step = fixed_turns(piece.frequency / shape.rate);
  piece.bend = fixed_turns(piece.slope / shape.rate);
  piece.poison = 0.0 * rise;
  piece.frame_count = count(double(f0[index / 2]));
  piece.first_count = count(piece.frequency);
  piece.last_count = count(piece.at(length > 0 ? length - 1 : 0));
  return piece;
}

// The sums of a piece that the gradient consists of: e, e (u + 1) and e u (u + 1) / 2 over its
// samples, e being the derivative by the phase; and the derivatives by the amplitudes of its frame
// and the next, where one number is the amplitude of all harmonics.
struct BankSums {
  double e, first, second, here, later;
};

}  // namespace rlsv_fast
