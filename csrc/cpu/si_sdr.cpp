// Scale-invariant signal-to-distortion ratio of each item (P1 and P2; floors: see decibels.h):
//   v = 10 log10( S / (E + e) + e ),   S = sum (a x)^2,   E = sum r^2,   r = a x - y,
//   a = <y, x> / |x|^2
// for target x and estimate y; and, with G the gradient of v (<r, x> = 0 removes da/dx, da/dy),
//   dy = 2 G ( dv/dS a x - dv/dE r )       dx = 2 G a (dv/dE - dv/dS) r
// E is summed in a second pass: <y, y> - a^2 <x, x> would cancel where the ratio is high.
#include "chunked_sums.h"
#include "operands.h"
#include "si_sdr_rules.h"

#define RLSV_KERNEL_FILE "cpu/si_sdr.cpp"
#include "each_simd.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "si_sdr";
constexpr int64_t kChunk = 8192;

template <typename T>
RLSV_INLINE void sum_moments(const T* estimate, const T* target, int64_t count, double* sums) {
  Vec<double> product = {}, energy = {};
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> x, y;
    widen_part(target + i, count - i, x);
    widen_part(estimate + i, count - i, y);
    product += x * y;
    energy += x * x;
  }
  sums[0] = sum<double>(product);
  sums[1] = sum<double>(energy);
}

template <typename T>
RLSV_INLINE void sum_residual(const T* estimate, const T* target, int64_t count, double scale,
                              double* sums) {
  Vec<double> energy = {};
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> x, y;
    widen_part(target + i, count - i, x);
    widen_part(estimate + i, count - i, y);
    const Vec<double> residual = x * scale - y;
    energy += residual * residual;
  }
  sums[0] = sum<double>(energy);
}

// grad_target may be null.
template <typename T>
RLSV_INLINE void backward_samples(const T* estimate, const T* target, int64_t count,
                                  const Flow& flow, T* grad_estimate, T* grad_target) {
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> x, y;
    widen_part(target + i, count - i, x);
    widen_part(estimate + i, count - i, y);
    const Vec<double> projection = x * flow.scale, residual = projection - y;
    narrow_part(projection * flow.by_projection + residual * flow.by_residual, count - i,
                grad_estimate + i);
    if (grad_target) narrow_part(residual * flow.target, count - i, grad_target + i);
  }
}

// Also returns the moments, shape (B, 3), float64.
std::tuple<Tensor, Tensor> si_sdr_forward(const Tensor& estimate, const Tensor& target) {
  check_pair(estimate, target, kOp);
  const int64_t items = estimate.size(0), samples = estimate.size(1);
  Tensor value = torch::stable::new_empty(estimate, {items});
  Tensor moments = torch::stable::new_empty(estimate, {items, 3}, ScalarType::Double);
  dispatch_floating(estimate, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *y = read<T>(estimate), *x = read<T>(target);
    Moments* kept = reinterpret_cast<Moments*>(write<double>(moments));
    const std::vector<double> sums =
        chunked_sums<2>(items, samples, kChunk, kChunk / 2,
                        [&](int64_t item, int64_t begin, int64_t end, double* partial) {
                          const int64_t first = item * samples + begin;
                          sum_moments(y + first, x + first, end - begin, partial);
                        });
    for (int64_t item = 0; item < items; ++item)
      kept[item] = {sums[2 * item], sums[2 * item + 1], 0.0};
    const std::vector<double> residuals = chunked_sums<1>(
        items, samples, kChunk, kChunk / 2,
        [&](int64_t item, int64_t begin, int64_t end, double* partial) {
          const int64_t first = item * samples + begin;
          sum_residual(y + first, x + first, end - begin, kept[item].scale(), partial);
        });
    T* out = write<T>(value);
    for (int64_t item = 0; item < items; ++item) {
      kept[item].residual = residuals[item];
      out[item] = T(kept[item].value());
    }
  });
  return {value, moments};
}

// The second result is empty unless with_target.
std::tuple<Tensor, Tensor> si_sdr_backward(const Tensor& grad, const Tensor& estimate,
                                           const Tensor& target, const Tensor& moments,
                                           bool with_target) {
  check_si_sdr_backward(grad, estimate, target, moments);
  const int64_t items = estimate.size(0), samples = estimate.size(1);
  Tensor grad_estimate = torch::stable::new_empty(estimate, {items, samples});
  Tensor grad_target = with_target ? torch::stable::new_empty(target, {items, samples})
                                   : torch::stable::new_empty(target, {0});
  dispatch_floating(estimate, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *y = read<T>(estimate), *x = read<T>(target), *upstream = read<T>(grad);
    const Moments* kept = reinterpret_cast<const Moments*>(read<double>(moments));
    T *by_estimate = write<T>(grad_estimate), *by_target = write<T>(grad_target);
    const int64_t chunks = (samples + kChunk - 1) / kChunk;
    parallel(items * chunks, kChunk / 2, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t item = i / chunks, sample = i % chunks * kChunk;
        const Flow flow = flow_of(kept[item], double(upstream[item]));
        const int64_t first = item * samples + sample;
        backward_samples(y + first, x + first, std::min(kChunk, samples - sample), flow,
                         by_estimate + first, with_target ? by_target + first : nullptr);
      }
    });
  });
  return {grad_estimate, grad_target};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_si_sdr_forward", si_sdr_forward);
  RLSV_IMPL(m, "_si_sdr_backward", si_sdr_backward);
}
#endif
