// <P, M> after exactly n alternating iterations, and the derivative of those iterations.
//
// Forward (sinkhorn_general.h) keeps the potentials alpha^k, beta^k of every iteration, n (N + M)
// numbers. With h = dL/dalpha, k = dL/dbeta and P^(A,B)_ij = exp(A_i + B_j - M_ij / eps), reverse
// begins with h_i = sum_j P_ij M_ij, k_j = sum_i P_ij M_ij at k = n, and for every iteration undoes
//   alpha^k:  h' = h / R 1;   k_j -= sum_i R_ij h'_i,  Gamma -= R o (h' 1'),  R = P^(alpha^k,
//   beta^k) beta^k:   k' = k / C' 1;  h_i = -sum_j C_ij k'_j,  Gamma -= C o (1 k'),
//             C = P^(alpha^(k-1), beta^k);
//   dL/dM = P - (P o M + Gamma) / eps,   dL/deps = sum_ij (P o M + Gamma)_ij M_ij / eps^2,
//   dL/da = sum_k h / a,   dL/db = sum_k k / b.
// Reverse: sinkhorn_reverse.h.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "exponential.h"
#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/sinkhorn_unrolled.cpp"
#include "each_simd.h"
#include "sinkhorn_general.h"
#include "sinkhorn_reverse.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

template <typename T>
RLSV_INLINE void iterate_problems(const Unrolled<T>& batch, int64_t begin, int64_t end) {
  const int64_t rows = batch.rows, columns = batch.columns, stride = rows + columns;
  General<T> general(rows, columns);
  for (int64_t item = begin; item < end; ++item) {
    const Problem<T> problem = batch.problem(item);
    T* history = batch.potentials + item * (batch.iterations + 1) * stride;
    double mass = 0, error = 0;
    for (int64_t i = 0; i < rows; ++i) mass += double(problem.row[i]);
    if (!general.read(problem) || !(problem.epsilon > T(0)) || !(mass > 0)) {
      // No mass has the plan 0: potentials -inf. Anything else has none: NaN.
      const T value =
          mass == 0 ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::quiet_NaN();
      std::fill(history, history + (batch.iterations + 1) * stride, value);
      batch.distance[item] = batch.error[item] = mass == 0 ? T(0) : value;
      continue;
    }
    std::fill(history, history + stride, T(0));
    error = batch.iterations == 0 ? general.stand() : 0;
    bool absorb = true;
    for (int64_t step = 1; step <= batch.iterations; ++step) {
      if (absorb || !general.scale()) {
        if (!absorb) general.potentials();
        general.absorb();
      }
      absorb = false;
      error = general.column_error();
      T* record = history + step * stride;
      general.potentials();
      std::copy(general.alpha, general.alpha + rows, record);
      std::copy(general.beta, general.beta + columns, record + rows);
    }
    write_plan<T>(problem, general.kernel, general.width, general.x, general.y, nullptr,
                  batch.distance + item);
    batch.error[item] = T(error / mass);
  }
}

template <typename T>
RLSV_INLINE void reverse_problems(const Unrolled<T>& batch, int64_t begin, int64_t end) {
  Reverse<T> reverse(batch.rows, batch.columns);
  for (int64_t item = begin; item < end; ++item) reverse.run(batch, item);
}

template <typename T>
Unrolled<T> read_batch(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                       const Tensor& column) {
  Unrolled<T> batch{};
  batch.cost = read<T>(cost);
  batch.epsilon = read<T>(epsilon);
  batch.row = read<T>(row);
  batch.column = read<T>(column);
  batch.rows = cost.size(1);
  batch.columns = cost.size(2);
  return batch;
}

std::tuple<Tensor, Tensor, Tensor> sinkhorn_unrolled_forward(const Tensor& cost,
                                                             const Tensor& epsilon,
                                                             const Tensor& row,
                                                             const Tensor& column,
                                                             int64_t iterations) {
  check_sinkhorn_unrolled(cost, epsilon, row, column);
  const int64_t items = cost.size(0), rows = cost.size(1), columns = cost.size(2);
  Tensor distance = torch::stable::empty_like(epsilon), error = torch::stable::empty_like(epsilon);
  Tensor potentials = torch::stable::new_empty(cost, {items, iterations + 1, rows + columns});
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    Unrolled<T> batch = read_batch<T>(cost, epsilon, row, column);
    batch.iterations = iterations;
    batch.potentials = write<T>(potentials);
    batch.distance = write<T>(distance);
    batch.error = write<T>(error);
    parallel(items, 2 * rows * columns,
             [&](int64_t begin, int64_t end) { iterate_problems(batch, begin, end); });
  });
  return {distance, potentials, error};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sinkhorn_unrolled_backward(
    const Tensor& grad, const Tensor& cost, const Tensor& epsilon, const Tensor& row,
    const Tensor& column, const Tensor& potentials) {
  check_sinkhorn_unrolled_backward(grad, cost, epsilon, row, column, potentials);
  Tensor grad_cost = torch::stable::empty_like(cost);
  Tensor grad_epsilon = torch::stable::empty_like(epsilon);
  Tensor grad_row = torch::stable::empty_like(row);
  Tensor grad_column = torch::stable::empty_like(column);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    Unrolled<T> batch = read_batch<T>(cost, epsilon, row, column);
    batch.grad = read<T>(grad);
    batch.iterations = potentials.size(1) - 1;
    batch.potentials = const_cast<T*>(read<T>(potentials));
    batch.grad_cost = write<T>(grad_cost);
    batch.grad_epsilon = write<T>(grad_epsilon);
    batch.grad_row = write<T>(grad_row);
    batch.grad_column = write<T>(grad_column);
    parallel(cost.size(0), 4 * cost.size(1) * cost.size(2),
             [&](int64_t begin, int64_t end) { reverse_problems(batch, begin, end); });
  });
  return {grad_cost, grad_epsilon, grad_row, grad_column};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_sinkhorn_unrolled_forward", sinkhorn_unrolled_forward);
  RLSV_IMPL(m, "_sinkhorn_unrolled_backward", sinkhorn_unrolled_backward);
}
#endif
