// What host and device agree on about spectral_loss (formulas: cpu/spectral_loss.cpp).
#pragma once

#include <cstdint>

#include "host_device.h"

namespace rlsv_fast {

constexpr double kSpectralFloor = 1e-10;  // added to squared magnitudes

template <typename T>
struct Weights {
  T magnitude, logarithm;  // a and b
  T per_octave;            // b log 2: of the logarithm to base 2
  T share;                 // 1 / M

  Weights(double a, double b, int64_t bins)
      : magnitude(T(a)),
        logarithm(T(b)),
        per_octave(T(0.69314718055994530942 * b)),
        share(T(bins > 0 ? 1.0 / double(bins) : 0.0)) {}
};

}  // namespace rlsv_fast
