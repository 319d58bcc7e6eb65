// Binds gated_recurrence: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "gated_recurrence.h"
#include "launch.h"

namespace rlsv_fast {
namespace {

constexpr const char* kOp = "gated_recurrence";

// Also returns what the gradient is made of: see cpu/gated_recurrence.cpp.
std::tuple<Tensor, Tensor, Tensor, Tensor> gated_recurrence_forward(const Tensor& projected,
                                                                    const Tensor& weight,
                                                                    const Tensor& bias, bool keep) {
  check_gated_recurrence(projected, weight, bias);
  const Launch launch(projected, kOp);
  const cuda::GateShape shape{projected.size(0), projected.size(1), weight.size(1)};
  const int64_t kept = keep ? shape.size : 0;
  Tensor states = torch::stable::new_empty(projected, {shape.items, shape.frames, shape.size});
  Tensor gates = torch::stable::new_empty(projected, {shape.items, shape.frames, 2 * kept});
  Tensor candidates = torch::stable::new_empty(projected, {shape.items, shape.frames, kept});
  Tensor parts = torch::stable::new_empty(projected, {shape.items, shape.frames, kept});
  dispatch_floating(projected, kOp, [&](auto zero) {
    using T = decltype(zero);
    cuda::GateMemory<T> memory{};
    if (keep) memory = {write<T>(gates), write<T>(candidates), write<T>(parts)};
    launch.check(cuda::gated_recurrence_forward(read<T>(projected), read<T>(weight), read<T>(bias),
                                                shape, write<T>(states), memory, launch.stream()));
  });
  return {states, gates, candidates, parts};
}

std::tuple<Tensor, Tensor> gated_recurrence_backward(const Tensor& grad, const Tensor& weight,
                                                     const Tensor& states, const Tensor& gates,
                                                     const Tensor& candidates,
                                                     const Tensor& parts) {
  check_gated_recurrence_backward(grad, weight, states, gates, candidates, parts);
  const Launch launch(grad, kOp);
  const cuda::GateShape shape{grad.size(0), grad.size(1), grad.size(2)};
  Tensor of_projected = torch::stable::new_empty(grad, {shape.items, shape.frames, 3 * shape.size});
  Tensor of_parts = torch::stable::new_empty(grad, {shape.items, shape.frames, shape.size});
  Tensor flow = torch::stable::new_empty(grad, {shape.items, shape.size});
  dispatch_floating(grad, kOp, [&](auto zero) {
    using T = decltype(zero);
    const cuda::GateMemory<const T> kept{read<T>(gates), read<T>(candidates), read<T>(parts)};
    launch.check(cuda::gated_recurrence_backward(
        read<T>(grad), read<T>(weight), read<T>(states), kept, shape, write<T>(flow),
        write<T>(of_projected), write<T>(of_parts), launch.stream()));
  });
  return {of_projected, of_parts};
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_gated_recurrence_forward", TORCH_BOX(&Contiguous<&gated_recurrence_forward>::call));
  m.impl("_gated_recurrence_backward", TORCH_BOX(&Contiguous<&gated_recurrence_backward>::call));
}
