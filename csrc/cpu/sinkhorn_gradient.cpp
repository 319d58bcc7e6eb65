// Implicit derivative of the transport plan P at the fixed point, marginals a and b given.
// With H = dL/dP (for L = <P, M>, whose own dependence on M adds P, H = M: _sinkhorn_distance of
// sinkhorn.cpp), r = P 1, c = P' 1:
//   [diag(r) P; P' diag(c)] [p; q] = [(P o H) 1; (P o H)' 1]
//   dL/dM_ij = P_ij (p_i + q_j - H_ij) / eps,   dL/da = p,   dL/db = q,
//   dL/deps = -sum_ij (dL/dM_ij) M_ij / eps.
// The actual sums r, c stand in the system, so that it is consistent for an unfinished plan too.
//
// The systems and their solvers: sinkhorn_system.h.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "exponential.h"
#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/sinkhorn_gradient.cpp"
#include "each_simd.h"
#include "sinkhorn_system.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

template <typename T>
struct Batch {
  const T *grad, *cost, *plan, *f, *g, *epsilon;
  int64_t rows, columns, stride;  // stride: from cost to cost, 0 if shared
  bool symmetric;
  T *grad_cost, *grad_epsilon, *grad_row, *grad_column;
};

template <typename T>
RLSV_INLINE void differentiate_problems(const Batch<T>& batch, int64_t begin, int64_t end) {
  const int64_t rows = batch.rows, columns = batch.columns, size = rows * columns;
  std::unique_ptr<System<T, T>> symmetric;
  std::unique_ptr<System<T, double>> general;
  for (int64_t index = begin; index < end; ++index) {
    const T *plan = batch.plan + index * size, *f = batch.f + index * rows,
            *g = batch.g + index * columns;
    const Item<T> item{batch.grad + index * size,
                       batch.cost + index * batch.stride,
                       rows,
                       columns,
                       batch.epsilon[index],
                       false};
    T *grad_cost = batch.grad_cost + index * size, *grad_row = batch.grad_row + index * rows,
      *grad_column = batch.grad_column + index * columns;
    // Equal potentials tell that the symmetric path found this plan.
    if (batch.symmetric && std::equal(f, f + rows, g)) {
      if (!symmetric) symmetric = std::make_unique<System<T, T>>(rows, columns);
      symmetric->read(item, plan);
      symmetric->solve_symmetric();
      batch.grad_epsilon[index] = symmetric->write(item, grad_cost, grad_row, grad_column);
    } else {
      if (!general) general = std::make_unique<System<T, double>>(rows, columns);
      general->read(item, plan);
      general->solve_general(item);
      batch.grad_epsilon[index] = general->write(item, grad_cost, grad_row, grad_column);
    }
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sinkhorn_backward(const Tensor& grad, const Tensor& cost,
                                                             const Tensor& plan, const Tensor& f,
                                                             const Tensor& g, const Tensor& epsilon,
                                                             bool symmetric) {
  check_sinkhorn_backward(grad, cost, plan, f, g, epsilon);
  Tensor grad_cost = torch::stable::empty_like(plan);
  Tensor grad_epsilon = torch::stable::empty_like(epsilon);
  Tensor grad_row = torch::stable::empty_like(f), grad_column = torch::stable::empty_like(g);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    const int64_t items = epsilon.size(0), rows = cost.size(1), columns = cost.size(2);
    const Batch<T> batch{read<T>(grad),
                         read<T>(cost),
                         read<T>(plan),
                         read<T>(f),
                         read<T>(g),
                         read<T>(epsilon),
                         rows,
                         columns,
                         cost.size(0) == items ? rows * columns : 0,
                         symmetric,
                         write<T>(grad_cost),
                         write<T>(grad_epsilon),
                         write<T>(grad_row),
                         write<T>(grad_column)};
    parallel(items, 2 * rows * columns,
             [&](int64_t begin, int64_t end) { differentiate_problems(batch, begin, end); });
  });
  return {grad_cost, grad_epsilon, grad_row, grad_column};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_sinkhorn_backward", sinkhorn_backward);
}
#endif
