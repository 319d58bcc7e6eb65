// Distance of magnitude spectra (UMSS; one size of the multi-resolution loss). With the bins x of
// an item's estimate and y of its target, M of each,
//   X = sqrt(|x|^2 + e),  Y = sqrt(|y|^2 + e),  e = 1e-10
//   v[b] = 1/M sum ( a |X - Y| + b |log X - log Y| )
// and, in the same pass, s being the sign of X - Y and 0 where they are equal,
//   dv/dx = s (a + b / X) x / (X M)       dv/dy = -s (a + b / Y) y / (Y M)
// as real and imaginary parts. X - Y is formed of the squares' difference, which cancels less.
#include <cmath>

#include "chunked_sums.h"
#include "exponential.h"
#include "operands.h"
#include "spectral_loss_rules.h"

#define RLSV_KERNEL_FILE "cpu/spectral_loss.cpp"
#include "each_simd.h"
#include "exponential_vectors.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "spectral_loss";
constexpr int64_t kChunk = 4096;
constexpr int64_t kBlock = 64;  // bins whose parts are taken from between each other at once

#if RLSV_VECTOR_BYTES == 64
RLSV_INLINE void root(const Vec<float>& square, Vec<float>& result) {
  result = __builtin_ia32_sqrtps512_mask(square, square, -1, 4);
}
RLSV_INLINE void root(const Vec<double>& square, Vec<double>& result) {
  result = __builtin_ia32_sqrtpd512_mask(square, square, -1, 4);
}
#elif RLSV_VECTOR_BYTES == 32
RLSV_INLINE void root(const Vec<float>& square, Vec<float>& result) {
  result = __builtin_ia32_sqrtps256(square);
}
RLSV_INLINE void root(const Vec<double>& square, Vec<double>& result) {
  result = __builtin_ia32_sqrtpd256(square);
}
#else
template <typename V>
RLSV_INLINE void root(const V& square, V& result) {
  for (size_t lane = 0; lane < sizeof(V) / sizeof(square[0]); ++lane)
    result[lane] = std::sqrt(square[lane]);
}
#endif

// The bins [0, count), count at most kBlock, of two spectra; gradients may be null.
template <typename T>
RLSV_INLINE void block(const T* estimate, const T* target, int64_t count, const Weights<T>& weight,
                       T* by_estimate, T* by_target, Vec<double>& total) {
  T parts[4][kBlock] = {}, factors[2][kBlock];
  for (int64_t i = 0; i < count; ++i) {
    parts[0][i] = estimate[2 * i];
    parts[1][i] = estimate[2 * i + 1];
    parts[2][i] = target[2 * i];
    parts[3][i] = target[2 * i + 1];
  }
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    Vec<T> re, im, target_re, target_im, X, Y, distance, ratio, size;
    load(parts[0] + i, re);
    load(parts[1] + i, im);
    load(parts[2] + i, target_re);
    load(parts[3] + i, target_im);
    const Vec<T> square = re * re + im * im + T(kSpectralFloor),
                 other = target_re * target_re + target_im * target_im + T(kSpectralFloor);
    root(square, X);
    root(other, Y);
    const Vec<T> difference =
        ((re - target_re) * (re + target_re) + (im - target_im) * (im + target_im)) / (X + Y);
    log2<T>(X / Y, ratio);
    absolute<T>(difference, distance);
    absolute<T>(ratio, size);
    add_lanes<T>(distance * weight.magnitude + size * weight.per_octave, total);
    const Vec<T> zero = {}, one = zero + T(1);
    const Vec<T> sign = difference > zero ? one : difference < zero ? -one : difference;
    store<T>(sign * (weight.magnitude + weight.logarithm / X) / X * weight.share, factors[0] + i);
    store<T>(-sign * (weight.magnitude + weight.logarithm / Y) / Y * weight.share, factors[1] + i);
  }
  for (int64_t i = 0; by_estimate && i < count; ++i) {
    by_estimate[2 * i] = factors[0][i] * parts[0][i];
    by_estimate[2 * i + 1] = factors[0][i] * parts[1][i];
  }
  for (int64_t i = 0; by_target && i < count; ++i) {
    by_target[2 * i] = factors[1][i] * parts[2][i];
    by_target[2 * i + 1] = factors[1][i] * parts[3][i];
  }
}

// The derivatives by the spectra are empty unless they are wanted.
std::tuple<Tensor, Tensor, Tensor> spectral_loss_forward(const Tensor& estimate,
                                                         const Tensor& target,
                                                         double magnitude_weight,
                                                         double log_magnitude_weight,
                                                         bool want_estimate, bool want_target) {
  check_spectral_loss(estimate, target);
  const int64_t items = estimate.size(0), bins = estimate.size(1);
  Tensor value = torch::stable::new_empty(estimate, {items});
  Tensor grad_estimate = torch::stable::new_empty(estimate, {want_estimate ? items : 0, bins, 2});
  Tensor grad_target = torch::stable::new_empty(target, {want_target ? items : 0, bins, 2});
  dispatch_floating(estimate, kOp, [&](auto zero) {
    using T = decltype(zero);
    const Weights<T> weight(magnitude_weight, log_magnitude_weight, bins);
    const T *x = read<T>(estimate), *y = read<T>(target);
    T *by_estimate = write<T>(grad_estimate), *by_target = write<T>(grad_target);
    const std::vector<double> sums = chunked_sums<1>(
        items, bins, kChunk, kChunk, [&](int64_t item, int64_t begin, int64_t end, double* sum_of) {
          Vec<double> total = {};
          for (int64_t bin = begin; bin < end; bin += kBlock) {
            const int64_t at = 2 * (item * bins + bin);
            block<T>(x + at, y + at, std::min(kBlock, end - bin), weight,
                     want_estimate ? by_estimate + at : nullptr,
                     want_target ? by_target + at : nullptr, total);
          }
          *sum_of = sum<double>(total);
        });
    T* out = write<T>(value);
    for (int64_t item = 0; item < items; ++item)
      out[item] = T(bins > 0 ? sums[item] / double(bins) : 0.0);
  });
  return {value, grad_estimate, grad_target};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_spectral_loss_forward", spectral_loss_forward);
}
#endif
