// Binds spectral_loss: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "launch.h"
#include "spectral_loss.h"

namespace rlsv_fast {
namespace {

constexpr const char* kOp = "spectral_loss";

// The derivatives by the spectra are empty unless they are wanted.
std::tuple<Tensor, Tensor, Tensor> spectral_loss_forward(const Tensor& estimate,
                                                         const Tensor& target,
                                                         double magnitude_weight,
                                                         double log_magnitude_weight,
                                                         bool want_estimate, bool want_target) {
  check_spectral_loss(estimate, target);
  const Launch launch(estimate, kOp);
  const int64_t items = estimate.size(0), bins = estimate.size(1);
  const cuda::Chunks rows = cuda::cut_rows(items, bins);
  Tensor value = torch::stable::new_empty(estimate, {items});
  Tensor grad_estimate = torch::stable::new_empty(estimate, {want_estimate ? items : 0, bins, 2});
  Tensor grad_target = torch::stable::new_empty(target, {want_target ? items : 0, bins, 2});
  Tensor partials = torch::stable::new_empty(estimate, {rows.total}, ScalarType::Double);
  dispatch_floating(estimate, kOp, [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::spectral_loss_forward(
        read<T>(estimate), read<T>(target), rows,
        Weights<T>(magnitude_weight, log_magnitude_weight, bins), write<double>(partials),
        write<T>(value), want_estimate ? write<T>(grad_estimate) : nullptr,
        want_target ? write<T>(grad_target) : nullptr, launch.stream()));
  });
  return {value, grad_estimate, grad_target};
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_spectral_loss_forward", TORCH_BOX(&Contiguous<&spectral_loss_forward>::call));
}
