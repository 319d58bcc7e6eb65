// The Sinkhorn operators' tensors: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "launch.h"
#include "sinkhorn.h"
#include "sinkhorn_gradient.h"
#include "sinkhorn_reverse.h"

namespace rlsv_fast {
namespace {

// What both forward launchers take.
template <typename T>
cuda::Sinkhorn<T> sinkhorn_problems(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                                    const Tensor& column, int64_t max_iterations) {
  cuda::Sinkhorn<T> in{};
  in.cost = read<T>(cost);
  in.epsilon = read<T>(epsilon);
  in.row = read<T>(row);
  in.column = read<T>(column);
  in.items = cost.size(0);
  in.rows = cost.size(1);
  in.columns = cost.size(2);
  in.max_iterations = max_iterations;
  return in;
}

template <typename T>
Tensor sinkhorn_workspace(const Tensor& cost, const Launch& launch) {
  constexpr int64_t kMost = int64_t(1) << 25;  // kernels count up to 35 times as many in int
  STD_TORCH_CHECK(cost.size(1) < kMost && cost.size(2) < kMost,
                  "sinkhorn: cost has more rows or columns than the kernels can count");
  int64_t numbers = 0;
  launch.check(
      cuda::sinkhorn_workspace(cost.size(0), cost.size(1), cost.size(2), sizeof(T), numbers));
  return torch::stable::new_empty(cost, {numbers});
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sinkhorn_forward(
    const Tensor& cost, const Tensor& epsilon, const Tensor& row, const Tensor& column,
    int64_t max_iterations, double tolerance, bool symmetric, bool want_plan) {
  check_sinkhorn(cost, epsilon, row, column);
  const int64_t items = cost.size(0), rows = cost.size(1), columns = cost.size(2);
  STD_TORCH_CHECK(!symmetric || rows == columns, "sinkhorn: a symmetric cost must be square");
  const Launch launch(cost, "sinkhorn");
  Tensor f = torch::stable::new_empty(cost, {items, rows});
  Tensor g = torch::stable::new_empty(cost, {items, columns});
  Tensor plan = torch::stable::new_empty(cost, {want_plan ? items : 0, rows, columns});
  Tensor distance = torch::stable::new_empty(cost, {items});
  Tensor error = torch::stable::new_empty(cost, {items});
  Tensor iterations = torch::stable::new_empty(cost, {items}, ScalarType::Long);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    cuda::Sinkhorn<T> in = sinkhorn_problems<T>(cost, epsilon, row, column, max_iterations);
    in.tolerance = tolerance;
    in.symmetric = symmetric;
    const cuda::SinkhornResult<T> out{
        write<T>(distance), want_plan ? write<T>(plan) : nullptr, write<T>(f),
        write<T>(g),        write<int64_t>(iterations),           write<T>(error)};
    const Tensor workspace = sinkhorn_workspace<T>(cost, launch);
    launch.check(cuda::sinkhorn_forward(in, out, write<T>(workspace), launch.stream()));
  });
  return {distance, plan, f, g, iterations, error};
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
    const Tensor workspace = sinkhorn_workspace<T>(cost, launch);
    launch.check(cuda::sinkhorn_unrolled_forward(
        sinkhorn_problems<T>(cost, epsilon, row, column, iterations), write<T>(distance),
        write<T>(potentials), write<T>(error), write<T>(workspace), launch.stream()));
  });
  return {distance, potentials, error};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sinkhorn_backward(const Tensor& grad, const Tensor& cost,
                                                             const Tensor& plan, const Tensor& f,
                                                             const Tensor& g, const Tensor& epsilon,
                                                             bool symmetric, bool distance) {
  check_sinkhorn_backward(grad, cost, plan, f, g, epsilon, distance);
  const Launch launch(cost, "sinkhorn");
  Tensor grad_cost = torch::stable::empty_like(cost);
  Tensor grad_epsilon = torch::stable::empty_like(epsilon);
  Tensor grad_row = torch::stable::empty_like(f), grad_column = torch::stable::empty_like(g);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    const cuda::SinkhornGradient<T> in{read<T>(grad),
                                       read<T>(cost),
                                       read<T>(plan),
                                       read<T>(f),
                                       read<T>(g),
                                       read<T>(epsilon),
                                       cost.size(0),
                                       cost.size(1),
                                       cost.size(2),
                                       symmetric,
                                       distance,
                                       write<T>(grad_cost),
                                       write<T>(grad_epsilon),
                                       write<T>(grad_row),
                                       write<T>(grad_column)};
    int64_t count = 0;
    launch.check(cuda::sinkhorn_gradient_workspace(in, count));
    Tensor workspace = torch::stable::new_empty(cost, {count}, ScalarType::Double);
    Tensor failed = torch::stable::new_empty(cost, {cost.size(0)}, ScalarType::Bool);
    launch.check(cuda::sinkhorn_gradient(in, write<double>(workspace), write<bool>(failed),
                                         launch.stream()));
  });
  return {grad_cost, grad_epsilon, grad_row, grad_column};
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
  m.impl("_sinkhorn_unrolled_forward", TORCH_BOX(&Contiguous<&sinkhorn_unrolled_forward>::call));
  m.impl("_sinkhorn_backward", TORCH_BOX(&Contiguous<&sinkhorn_backward>::call));
  m.impl("_sinkhorn_unrolled_backward", TORCH_BOX(&Contiguous<&sinkhorn_unrolled_backward>::call));
}
