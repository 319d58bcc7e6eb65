// The level of one energy over another in decibels, and its slopes:
//   v = 10 log10( S / (E + e) + e ),   e = 1e-24
// The two floors keep v finite: a silent signal gives -240, an error of nothing 240 + 10 log10 S.
#pragma once

#include <cmath>

#include "host_device.h"

namespace rlsv_fast {

struct Decibels {
  double value, by_signal, by_error;  // v, dv/dS, dv/dE
};

RLSV_HOST_DEVICE Decibels decibels(double signal, double error) {
  constexpr double kFloor = 1e-24, kTenOverLog10 = 4.3429448190325182765;
  const double noise = error + kFloor;
  const double ratio = signal / noise + kFloor;
  const double slope = kTenOverLog10 / (ratio * noise);
  // Whatever made a silent signal has slope zero there: the product is zero, not infinity.
  return {10.0 * log10(ratio), signal > 0.0 ? slope : 0.0, -slope * (signal / noise)};
}

}  // namespace rlsv_fast
