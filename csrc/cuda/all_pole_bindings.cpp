// The tensors of all_pole: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "all_pole.h"
#include "launch.h"

namespace rlsv_fast {
namespace {

// Also returns y, shape (B, T, L).
std::tuple<Tensor, Tensor> all_pole_forward(const Tensor& signal, const Tensor& coefficients,
                                            int64_t frame, int64_t hop) {
  const PoleShape shape = check_all_pole(signal, coefficients, frame, hop);
  const Launch launch(signal, "all_pole");
  Tensor filtered = torch::stable::new_empty(signal, {shape.batch, shape.frames, frame});
  Tensor result = torch::stable::new_empty(signal, {shape.batch, shape.samples()});
  dispatch_floating(signal, "all_pole", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::all_pole_forward(read<T>(signal), read<T>(coefficients), shape,
                                        write<T>(filtered), write<T>(result), launch.stream()));
  });
  return {result, filtered};
}

std::tuple<Tensor, Tensor> all_pole_backward(const Tensor& grad, const Tensor& coefficients,
                                             const Tensor& filtered, int64_t hop) {
  const PoleShape shape = check_all_pole_backward(grad, coefficients, filtered, hop);
  const Launch launch(grad, "all_pole");
  Tensor flow = torch::stable::new_empty(grad, {shape.batch, shape.frames, shape.frame});
  Tensor grad_signal = torch::stable::new_empty(grad, {shape.batch, shape.samples()});
  Tensor grad_coefficients =
      torch::stable::new_empty(grad, {shape.batch, shape.frames, shape.order});
  dispatch_floating(grad, "all_pole", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::all_pole_backward(read<T>(grad), read<T>(coefficients), read<T>(filtered),
                                         shape, write<T>(flow), write<T>(grad_signal),
                                         write<T>(grad_coefficients), launch.stream()));
  });
  return {grad_signal, grad_coefficients};
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_all_pole_forward", TORCH_BOX(&Contiguous<&all_pole_forward>::call));
  m.impl("_all_pole_backward", TORCH_BOX(&Contiguous<&all_pole_backward>::call));
}
