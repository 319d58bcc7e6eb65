// The mathematics of lsf_to_lpc, shared by the CPU and CUDA kernels; V is a double or a vector of
// them. P and Q are products of factors 1 + c_i z^-1 + z^-2, c_i = -2 cos w_i, and so palindromic:
// of one with `factors` factors the first `factors` + 1 coefficients say everything.
#pragma once

#include <cstdint>

#include "host_device.h"
#include "turns.h"

namespace rlsv_fast {

constexpr int64_t kMostLines = 64;  // P
constexpr int64_t kMostFactors = kMostLines / 2;

// Frequencies w_0, w_2, ... make P, w_1, w_3, ... make Q.
RLSV_HOST_DEVICE int64_t lsf_factors(int64_t order, bool second) {
  return second ? order / 2 : (order + 1) / 2;
}

// Factors are multiplied in an order in which neighbours lie far apart: from i to i + stride modulo
// `factors`, no common divisor, about the golden ratio. In ascending order partial products grow
// as 2^(factors / 2), and their digits are lost again: at P = 64, all of them.
RLSV_HOST_DEVICE int64_t factor_stride(int64_t factors) {
  for (int64_t stride = (5 * factors + 4) / 8;; ++stride) {
    int64_t divisor = stride > 0 ? stride : 1, rest = factors;
    while (rest != 0) {
      const int64_t next = divisor % rest;
      divisor = rest;
      rest = next;
    }
    if (divisor == 1) return stride > 0 ? stride : 1;
  }
}

// cos and sin of w in radians.
template <typename V>
RLSV_HOST_DEVICE void cosine_and_sine(const V& radians, V& cosine, V& sine) {
  V turns = radians * 0.15915494309189533577;
  reduce_turns<double, V>(turns);
  const V size = turns < 0.0 ? -turns : turns, beyond = size - 0.25;
  quarter_sine<V>(V(-beyond), cosine, 0.0);
  V folded = beyond < 0.0 ? beyond : -beyond;
  folded = folded + 0.25;
  quarter_sine<V>(folded, sine, 0.0);
  sine = turns < 0.0 ? -sine : sine;
}

// half <- half (1 + c z^-1 + z^-2); numbers lie `step` apart.
template <typename V>
RLSV_HOST_DEVICE void multiply_factor(V* half, int64_t step, int64_t factors, const V& linear) {
  if (factors == 0) {
    half[step] = linear;
    return;
  }
  V* last = half + factors * step;
  last[step] = linear * last[0] + 2.0 * last[-step];
  for (; last > half + step; last -= step)
    last[0] = last[0] + (linear * last[-step] + last[-2 * step]);
  last[0] = last[0] + linear * last[-step];
}

// sum += coefficient k of a product; nothing beyond its degree.
template <typename V>
RLSV_HOST_DEVICE void add_coefficient(const V* half, int64_t step, int64_t factors, int64_t k,
                                      const V& sign, V& sum) {
  if (k < 0 || k > 2 * factors) return;
  sum = sum + sign * half[(k <= factors ? k : 2 * factors - k) * step];
}

// Coefficient k of A from the products of both kinds.
template <typename V>
RLSV_HOST_DEVICE void lpc_coefficient(const V* first, const V* second, int64_t step, int64_t order,
                                      int64_t k, V& value) {
  const int64_t ones = lsf_factors(order, false), twos = lsf_factors(order, true);
  const V half = V{} + 0.5, less = V{} - 0.5;
  value = V{};
  add_coefficient<V>(first, step, ones, k, half, value);
  add_coefficient<V>(second, step, twos, k, half, value);
  if (order % 2 == 0) add_coefficient<V>(first, step, ones, k - 1, half, value);
  add_coefficient<V>(second, step, twos, k - (order % 2 == 0 ? 1 : 2), less, value);
}

// sum += what reaches coefficient k of z^-1 times a product without one factor (k from 1, at
// place 0) from the gradient of A.
template <typename V, typename Number>
RLSV_HOST_DEVICE void add_reaching(const Number* grad, int64_t step, int64_t order, bool second,
                                   int64_t place, V& sum) {
  const bool even = order % 2 == 0;
  const int64_t next = place + (even ? 1 : 2);
  sum = sum + V(grad[place * step]);
  if (next >= order) return;
  if (second) sum = sum - V(grad[next * step]);
  if (!second && even) sum = sum + V(grad[next * step]);
}

// The same for coefficient `degree` of the product without one factor and the one that mirrors it.
template <typename V, typename Number>
RLSV_HOST_DEVICE void fold_gradient(const Number* grad, int64_t step, int64_t order, bool second,
                                    int64_t degree, V& sum) {
  const int64_t mirror = 2 * (lsf_factors(order, second) - 1) - degree;
  sum = V{};
  add_reaching<V>(grad, step, order, second, degree, sum);
  if (mirror != degree) add_reaching<V>(grad, step, order, second, mirror, sum);
}

// dw = sin w sum_k G_k D_k, D the product divided by its factor of w, from the lowest coefficient:
// D_k = p_k - c D_{k-1} - D_{k-2}. G is the folded gradient.
template <typename V>
RLSV_HOST_DEVICE void lsf_gradient(const V* half, const V* folded, int64_t step, int64_t factors,
                                   const V& radians, V& gradient) {
  V cosine, sine;
  cosine_and_sine<V>(radians, cosine, sine);
  const V linear = 2.0 * cosine;
  V quotient = {}, before = {}, sum = {};
  for (int64_t k = 0; k < factors; ++k) {
    const V next = half[k * step] + (linear * quotient - before);
    before = quotient;
    quotient = next;
    sum = sum + folded[k * step] * quotient;
  }
  gradient = sine * sum;
}

}  // namespace rlsv_fast
