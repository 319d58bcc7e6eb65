// What the scale-invariant ratio of one item follows from, on any device (formulas:
// cpu/si_sdr.cpp).
#pragma once

#include "decibels.h"

namespace rlsv_fast {

// <y, x>, |x|^2 and E of an item, as kept for the backward pass; a is zero for a silent target.
struct Moments {
  double product, energy, residual;

  RLSV_HOST_DEVICE double scale() const { return energy > 0.0 ? product / energy : 0.0; }
  RLSV_HOST_DEVICE Decibels level() const { return decibels(scale() * product, residual); }

  // A silent target has no value: NaN.
  RLSV_HOST_DEVICE double value() const { return energy == 0.0 ? double(NAN) : level().value; }
};

// a, and the factors of the projection a x and the residual r in dy, and of r in dx.
struct Flow {
  double scale, by_projection, by_residual, target;
};

// For the gradient of the value. A silent target, which has no value, passes nothing on.
RLSV_HOST_DEVICE Flow flow_of(const Moments& moments, double grad) {
  const Decibels level = moments.level();
  const double g = moments.energy == 0.0 ? 0.0 : 2.0 * grad, scale = moments.scale();
  return {scale, g * level.by_signal, -g * level.by_error,
          g * scale * (level.by_error - level.by_signal)};
}

}  // namespace rlsv_fast
