// The Sinkhorn loss of a representation A (B, C, T) and its derivative, made of the raw operators
// of the device that A is on: one crossing from Python each way, and nothing that autograd has to
// keep track of in between. With M(A) the frames' distances (frame_distance) and W(M) = <P, M> the
// transport cost of the symmetric problem with marginals 1/T (sinkhorn),
//   loss = W(mean_b M_b), of one number,   or   loss_b = W(M_b),
//   dloss/dA_b = dM_b/dA_b' dW/dM_b,  where the mean's share of each item is 1/B.
#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "check.h"

namespace rlsv_fast {
namespace {

// An operator of any library, by name, with the results it has.
template <typename... Results, typename... Arguments>
std::tuple<Results...> call(const char* name, const char* overload, const Arguments&... arguments) {
  std::array<StableIValue, std::max(sizeof...(Results), sizeof...(Arguments))> stack{
      torch::stable::detail::from(arguments)...};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION));
  return [&]<size_t... index>(std::index_sequence<index...>) {
    return std::tuple<Results...>{torch::stable::detail::to<Results>(stack[index])...};
  }(std::index_sequence_for<Results...>{});
}

Tensor filled(const Tensor& like, std::initializer_list<int64_t> sizes, double value) {
  Tensor tensor = torch::stable::new_empty(like, sizes);
  torch::stable::fill_(tensor, value);
  return tensor;
}

Tensor product(const Tensor& first, const Tensor& second) {
  return std::get<0>(call<Tensor>("aten::mul", "Tensor", first, second));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sinkhorn_loss_forward(
    const Tensor& representation, double epsilon, int64_t p, int64_t normalize, bool mean,
    int64_t max_iterations, double tolerance, bool want_gradient) {
  auto [distance] =
      call<Tensor>("rlsv_fast::_frame_distance_forward", "", representation, p, normalize);
  Tensor cost = distance;
  if (mean && distance.size(0) != 1) {
    const double share = 1.0 / double(distance.size(0));
    const std::vector<int64_t> batch{0};
    cost = torch::stable::sum(distance, torch::headeronly::IntHeaderOnlyArrayRef(batch), true);
    cost = product(cost, filled(cost, {1}, share));
  }
  const int64_t items = cost.size(0), frames = cost.size(1);
  const Tensor strength = filled(cost, {items}, epsilon);
  const Tensor marginal = filled(cost, {items, frames}, 1.0 / double(frames));
  const Tensor cold = torch::stable::new_empty(cost, {0, frames});
  if (want_gradient) {
    auto [loss, error, grad_cost, grad_epsilon, grad_row, grad_column] =
        call<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>("rlsv_fast::_sinkhorn_distance", "",
                                                             cost, strength, marginal, marginal,
                                                             cold, max_iterations, tolerance, true);
    return {loss, error, distance, grad_cost};
  }
  auto [loss, plan, f, g, iterations, error] = call<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
      "rlsv_fast::_sinkhorn_forward", "", cost, strength, marginal, marginal, cold, max_iterations,
      tolerance, true, false);
  return {loss, error, distance, torch::stable::new_empty(cost, {0, frames, frames})};
}

Tensor sinkhorn_loss_backward(const Tensor& grad, const Tensor& representation,
                              const Tensor& distance, const Tensor& grad_cost, int64_t p,
                              int64_t normalize) {
  const int64_t batch = distance.size(0), items = grad_cost.size(0), frames = distance.size(1);
  STD_TORCH_CHECK(grad.dim() == 1 && grad.size(0) == items && (items == batch || items == 1),
                  "sinkhorn_loss: grad and grad_cost must have one item, or one per item");
  Tensor upstream = product(grad_cost, torch::stable::view(grad, {items, 1, 1}));
  if (items != batch) {
    upstream = product(upstream, filled(grad, {1}, 1.0 / double(batch)));
    const std::vector<int64_t> sizes{batch, frames, frames};
    upstream = std::get<0>(call<Tensor>("aten::expand", "", upstream, sizes, false));
  }
  return std::get<0>(call<Tensor>("rlsv_fast::_frame_distance_backward", "", upstream,
                                  representation, distance, p, normalize));
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CompositeExplicitAutograd, m) {
  using namespace rlsv_fast;
  m.impl("_sinkhorn_loss_forward", TORCH_BOX(&Contiguous<&sinkhorn_loss_forward>::call));
  m.impl("_sinkhorn_loss_backward", TORCH_BOX(&Contiguous<&sinkhorn_loss_backward>::call));
}
