// The tensors of lsf_to_lpc: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "launch.h"
#include "lsf_to_lpc.h"

namespace rlsv_fast {
namespace {

Tensor lsf_to_lpc_forward(const Tensor& lsf) {
  check_lsf_to_lpc(lsf);
  const Launch launch(lsf, "lsf_to_lpc");
  const int64_t rows = lsf.size(0), order = lsf.size(1);
  Tensor result = torch::stable::new_empty(lsf, {rows, order});
  dispatch_floating(lsf, "lsf_to_lpc", [&](auto zero) {
    using T = decltype(zero);
    launch.check(
        cuda::lsf_to_lpc_forward(read<T>(lsf), rows, order, write<T>(result), launch.stream()));
  });
  return result;
}

Tensor lsf_to_lpc_backward(const Tensor& grad, const Tensor& lsf) {
  check_lsf_to_lpc_backward(grad, lsf);
  const Launch launch(lsf, "lsf_to_lpc");
  const int64_t rows = lsf.size(0), order = lsf.size(1);
  Tensor result = torch::stable::new_empty(lsf, {rows, order});
  dispatch_floating(lsf, "lsf_to_lpc", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::lsf_to_lpc_backward(read<T>(grad), read<T>(lsf), rows, order,
                                           write<T>(result), launch.stream()));
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_lsf_to_lpc_forward", TORCH_BOX(&Contiguous<&lsf_to_lpc_forward>::call));
  m.impl("_lsf_to_lpc_backward", TORCH_BOX(&Contiguous<&lsf_to_lpc_backward>::call));
}
