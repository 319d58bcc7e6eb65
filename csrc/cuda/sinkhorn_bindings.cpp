// The Sinkhorn operators' tensors: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "launch.h"
#include "sinkhorn.h"
#include "sinkhorn_gradient.h"
#include "sinkhorn_reverse.h"

namespace rlsv_fast {
namespace {

// From cost to cost, 0 if one is shared.
int64_t cost_stride(const Tensor& cost, int64_t items) {
  return cost.size(0) == items ? cost.size(1) * cost.size(2) : 0;
}

// What both forward launchers take.
template <typename T>
cuda::Sinkhorn<T> sinkhorn_problems(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                                    const Tensor& column, int64_t max_iterations) {
  cuda::Sinkhorn<T> in{};
  in.cost = read<T>(cost);
  in.epsilon = read<T>(epsilon);
  in.row = read<T>(row);
  in.column = read<T>(column);
  in.items = epsilon.size(0);
  in.rows = cost.size(1);
  in.columns = cost.size(2);
  in.stride = cost_stride(cost, in.items);
  in.max_iterations = max_iterations;
  return in;
}

template <typename T>
Tensor sinkhorn_workspace(const Tensor& cost, int64_t items, const Launch& launch) {
  constexpr int64_t kMost = int64_t(1) << 25;  // kernels count up to 35 times as many in int
  STD_TORCH_CHECK(cost.size(1) < kMost && cost.size(2) < kMost,
                  "sinkhorn: cost has more rows or columns than the kernels can count");
  int64_t numbers = 0;
  launch.check(cuda::sinkhorn_workspace(items, cost.size(1), cost.size(2), sizeof(T), numbers));
  return torch::stable::new_empty(cost, {numbers});
}

// Solves the problems; the plan (B, N, M) is written unless it is empty.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> solve(const Tensor& cost, const Tensor& epsilon,
                                                         const Tensor& row, const Tensor& column,
                                                         const Tensor& initial,
                                                         int64_t max_iterations, double tolerance,
                                                         bool symmetric, const Launch& launch,
                                                         Tensor& plan) {
  Tensor f = torch::stable::empty_like(row), g = torch::stable::empty_like(column);
  Tensor distance = torch::stable::empty_like(epsilon), error = torch::stable::empty_like(epsilon);
  Tensor iterations = torch::stable::new_empty(cost, {epsilon.size(0)}, ScalarType::Long);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    cuda::Sinkhorn<T> in = sinkhorn_problems<T>(cost, epsilon, row, column, max_iterations);
    in.initial = initial.size(0) > 0 ? read<T>(initial) : nullptr;
    in.tolerance = tolerance;
    in.symmetric = symmetric;
    const cuda::SinkhornResult<T> out{write<T>(distance),
                                      plan.size(0) > 0 ? write<T>(plan) : nullptr,
                                      write<T>(f),
                                      write<T>(g),
                                      write<int64_t>(iterations),
                                      write<T>(error)};
    const Tensor workspace = sinkhorn_workspace<T>(cost, in.items, launch);
    launch.check(cuda::sinkhorn_forward(in, out, write<T>(workspace), launch.stream()));
  });
  return {distance, f, g, iterations, error};
}

// The derivatives by cost, epsilon and marginals, of the distance where `grad` is null.
std::tuple<Tensor, Tensor, Tensor, Tensor> differentiate(const Tensor* grad, const Tensor& cost,
                                                         const Tensor& plan, const Tensor& f,
                                                         const Tensor& g, const Tensor& epsilon,
                                                         bool symmetric, const Launch& launch) {
  const int64_t items = epsilon.size(0);
  Tensor grad_cost = torch::stable::empty_like(plan);
  Tensor grad_epsilon = torch::stable::empty_like(epsilon);
  Tensor grad_row = torch::stable::empty_like(f), grad_column = torch::stable::empty_like(g);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    const cuda::SinkhornGradient<T> in{grad ? read<T>(*grad) : nullptr,
                                       read<T>(cost),
                                       read<T>(plan),
                                       read<T>(f),
                                       read<T>(g),
                                       read<T>(epsilon),
                                       items,
                                       cost.size(1),
                                       cost.size(2),
                                       cost_stride(cost, items),
                                       symmetric,
                                       write<T>(grad_cost),
                                       write<T>(grad_epsilon),
                                       write<T>(grad_row),
                                       write<T>(grad_column)};
    int64_t count = 0;
    launch.check(cuda::sinkhorn_gradient_workspace(in, count));
    Tensor workspace = torch::stable::new_empty(cost, {count}, ScalarType::Double);
    Tensor failed = torch::stable::new_empty(cost, {items}, ScalarType::Bool);
    launch.check(cuda::sinkhorn_gradient(in, write<double>(workspace), write<bool>(failed),
                                         launch.stream()));
  });
  return {grad_cost, grad_epsilon, grad_row, grad_column};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sinkhorn_forward(
    const Tensor& cost, const Tensor& epsilon, const Tensor& row, const Tensor& column,
    const Tensor& initial, int64_t max_iterations, double tolerance, bool symmetric,
    bool want_plan) {
  check_sinkhorn(cost, epsilon, row, column, initial, symmetric);
  const Launch launch(cost, "sinkhorn");
  const int64_t items = want_plan ? epsilon.size(0) : 0;
  Tensor plan = torch::stable::new_empty(cost, {items, cost.size(1), cost.size(2)});
  auto [distance, f, g, iterations, error] = solve(
      cost, epsilon, row, column, initial, max_iterations, tolerance, symmetric, launch, plan);
  return {distance, plan, f, g, iterations, error};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sinkhorn_distance(
    const Tensor& cost, const Tensor& epsilon, const Tensor& row, const Tensor& column,
    const Tensor& initial, int64_t max_iterations, double tolerance, bool symmetric) {
  check_sinkhorn(cost, epsilon, row, column, initial, symmetric);
  const Launch launch(cost, "sinkhorn");
  Tensor plan = torch::stable::new_empty(cost, {epsilon.size(0), cost.size(1), cost.size(2)});
  auto [distance, f, g, iterations, error] = solve(
      cost, epsilon, row, column, initial, max_iterations, tolerance, symmetric, launch, plan);
  auto [grad_cost, grad_epsilon, grad_row, grad_column] =
      differentiate(nullptr, cost, plan, f, g, epsilon, symmetric, launch);
  return {distance, error, grad_cost, grad_epsilon, grad_row, grad_column};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sinkhorn_backward(const Tensor& grad, const Tensor& cost,
                                                             const Tensor& plan, const Tensor& f,
                                                             const Tensor& g, const Tensor& epsilon,
                                                             bool symmetric) {
  check_sinkhorn_backward(grad, cost, plan, f, g, epsilon);
  const Launch launch(cost, "sinkhorn");
  return differentiate(&grad, cost, plan, f, g, epsilon, symmetric, launch);
}

std::tuple<Tensor, Tensor, Tensor> sinkhorn_unrolled_forward(const Tensor& cost,
                                                             const Tensor& epsilon,
                                                             const Tensor& row,
                                                             const Tensor& column,
                                                             int64_t iterations) {
  check_sinkhorn_unrolled(cost, epsilon, row, column);
  const int64_t items = cost.size(0), rows = cost.size(1), columns = cost.size(2);
  const Launch launch(cost, "sinkhorn");
  Tensor distance = torch::stable::new_empty(cost, {items});
  Tensor error = torch::stable::new_empty(cost, {items});
  Tensor potentials = torch::stable::new_empty(cost, {items, iterations + 1, rows + columns});
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    const Tensor workspace = sinkhorn_workspace<T>(cost, items, launch);
    launch.check(cuda::sinkhorn_unrolled_forward(
        sinkhorn_problems<T>(cost, epsilon, row, column, iterations), write<T>(distance),
        write<T>(potentials), write<T>(error), write<T>(workspace), launch.stream()));
  });
  return {distance, potentials, error};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sinkhorn_unrolled_backward(
    const Tensor& grad, const Tensor& cost, const Tensor& epsilon, const Tensor& row,
    const Tensor& column, const Tensor& potentials) {
  check_sinkhorn_unrolled_backward(grad, cost, epsilon, row, column, potentials);
  const Launch launch(cost, "sinkhorn");
  Tensor grad_cost = torch::stable::empty_like(cost);
  Tensor grad_epsilon = torch::stable::empty_like(epsilon);
  Tensor grad_row = torch::stable::empty_like(row), grad_column = torch::stable::empty_like(column);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    const cuda::SinkhornReverse<T> in{
        read<T>(grad),      read<T>(cost),          read<T>(epsilon),    read<T>(row),
        read<T>(column),    read<T>(potentials),    cost.size(0),        cost.size(1),
        cost.size(2),       potentials.size(1) - 1, write<T>(grad_cost), write<T>(grad_epsilon),
        write<T>(grad_row), write<T>(grad_column)};
    int64_t count = 0;
    launch.check(cuda::sinkhorn_reverse_workspace(in, count));
    Tensor workspace = torch::stable::new_empty(cost, {count});
    launch.check(cuda::sinkhorn_reverse(in, write<T>(workspace), launch.stream()));
  });
  return {grad_cost, grad_epsilon, grad_row, grad_column};
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_sinkhorn_forward", TORCH_BOX(&Contiguous<&sinkhorn_forward>::call));
  m.impl("_sinkhorn_distance", TORCH_BOX(&Contiguous<&sinkhorn_distance>::call));
  m.impl("_sinkhorn_unrolled_forward", TORCH_BOX(&Contiguous<&sinkhorn_unrolled_forward>::call));
  m.impl("_sinkhorn_backward", TORCH_BOX(&Contiguous<&sinkhorn_backward>::call));
  m.impl("_sinkhorn_unrolled_backward", TORCH_BOX(&Contiguous<&sinkhorn_unrolled_backward>::call));
}
