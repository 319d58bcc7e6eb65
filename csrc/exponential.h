// Powers of two and logarithms to base 2, as polynomials on one octave:
//   2^x = 2^n 2^r,  n = round(x), |r| <= 1/2          log2 x = e + s q(s^2),  x = 2^e m,
//   s = (m - 1) / (m + 1),  m in [sqrt(1/2), sqrt(2))
// Chebyshev interpolants; relative error 5e-9 and 7e-10 for float, 1e-19 and 8e-21 for double.
// Shared by host and device; the host's vectors around them are in cpu/exponential_vectors.h.
#pragma once

#include "turns.h"

namespace rlsv_fast {

// 2^r for |r| <= 1/2; exactly 1 at 0.
template <typename V>
RLSV_HOST_DEVICE void octave_power(const V& r, V& power, float) {
  V q = r * 0.000154531629451f + 0.00133908633647f;
  q = q * r + 0.00961808255728f;
  q = q * r + 0.0555035711422f;
  q = q * r + 0.240226507606f;
  q = q * r + 0.693147188026f;
  power = q * r + 1.0f;
}
template <typename V>
RLSV_HOST_DEVICE void octave_power(const V& r, V& power, double) {
  V q = r * 2.5729324177362304214e-11 + 4.455817908336064493e-10;
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
  power = q * r + 1.0;
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

}  // namespace rlsv_fast
