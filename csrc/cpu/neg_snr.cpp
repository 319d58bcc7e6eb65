// Negative signal-to-noise ratio (EUSIPCO 2020; floors of the published code, see decibels.h):
//   v = -10 log10( S / (E + e) + e ),   S = sum x^2,   E = sum (x - y)^2,   e = 1e-24
// for target x and estimate y, sums over one item or over the whole batch; and, with G the
// gradient of v,
//   dy = 2 G (dv/dE) (y - x)       dx = 2 G (dv/dS) x - dy
#include "chunked_sums.h"
#include "decibels.h"
#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/neg_snr.cpp"
#include "each_simd.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "neg_snr";
constexpr int64_t kChunk = 8192;

template <typename T>
RLSV_INLINE void sum_energies(const T* estimate, const T* target, int64_t count, double* sums) {
  Vec<double> signal = {}, error = {};
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> x, y;
    widen_part(target + i, count - i, x);
    widen_part(estimate + i, count - i, y);
    signal += x * x;
    error += (x - y) * (x - y);
  }
  sums[0] = sum<double>(signal);
  sums[1] = sum<double>(error);
}

// by_signal and by_error are 2 G dv/dS and 2 G dv/dE; grad_target may be null.
template <typename T>
RLSV_INLINE void backward_samples(const T* estimate, const T* target, int64_t count,
                                  double by_signal, double by_error, T* grad_estimate,
                                  T* grad_target) {
  for (int64_t i = 0; i < count; i += kLanes<double>) {
    Vec<double> x, y;
    widen_part(target + i, count - i, x);
    widen_part(estimate + i, count - i, y);
    const Vec<double> flow = (y - x) * by_error;
    narrow_part(flow, count - i, grad_estimate + i);
    if (grad_target) narrow_part(x * by_signal - flow, count - i, grad_target + i);
  }
}

// Also returns the energies S, E per row, shape (rows, 2), float64.
std::tuple<Tensor, Tensor> neg_snr_forward(const Tensor& estimate, const Tensor& target,
                                           bool batch) {
  check_pair(estimate, target, kOp);
  const ValueRows rows = neg_snr_rows(estimate, batch);
  Tensor value = batch ? torch::stable::new_empty(estimate, {})
                       : torch::stable::new_empty(estimate, {rows.count});
  Tensor energies = torch::stable::new_empty(estimate, {rows.count, 2}, ScalarType::Double);
  dispatch_floating(estimate, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *y = read<T>(estimate), *x = read<T>(target);
    const std::vector<double> sums =
        chunked_sums<2>(rows.count, rows.length, kChunk, kChunk / 2,
                        [&](int64_t row, int64_t begin, int64_t end, double* partial) {
                          const int64_t first = row * rows.length + begin;
                          sum_energies(y + first, x + first, end - begin, partial);
                        });
    std::copy(sums.begin(), sums.end(), write<double>(energies));
    T* out = write<T>(value);
    for (int64_t row = 0; row < rows.count; ++row)
      out[row] = T(-decibels(sums[2 * row], sums[2 * row + 1]).value);
  });
  return {value, energies};
}

// The second result is empty unless with_target.
std::tuple<Tensor, Tensor> neg_snr_backward(const Tensor& grad, const Tensor& estimate,
                                            const Tensor& target, const Tensor& energies,
                                            bool batch, bool with_target) {
  check_neg_snr_backward(grad, estimate, target, energies, batch);
  const ValueRows rows = neg_snr_rows(estimate, batch);
  const int64_t items = estimate.size(0), samples = estimate.size(1);
  Tensor grad_estimate = torch::stable::new_empty(estimate, {items, samples});
  Tensor grad_target = with_target ? torch::stable::new_empty(target, {items, samples})
                                   : torch::stable::new_empty(target, {0});
  dispatch_floating(estimate, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *y = read<T>(estimate), *x = read<T>(target), *upstream = read<T>(grad);
    const double* sums = read<double>(energies);
    T *by_estimate = write<T>(grad_estimate), *by_target = write<T>(grad_target);
    const int64_t chunks = (rows.length + kChunk - 1) / kChunk;
    parallel(rows.count * chunks, kChunk / 2, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / chunks, sample = i % chunks * kChunk;
        const Decibels level = decibels(sums[2 * row], sums[2 * row + 1]);
        const double flow = -2.0 * double(upstream[row]);
        const int64_t first = row * rows.length + sample;
        backward_samples(y + first, x + first, std::min(kChunk, rows.length - sample),
                         flow * level.by_signal, flow * level.by_error, by_estimate + first,
                         with_target ? by_target + first : nullptr);
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
  RLSV_IMPL(m, "_neg_snr_forward", neg_snr_forward);
  RLSV_IMPL(m, "_neg_snr_backward", neg_snr_backward);
}
#endif
