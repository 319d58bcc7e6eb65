// Entropic optimal transport: the plan P = argmin <P, M> - eps H(P) with row sums a and column
// sums b, its potentials f = eps alpha, g = eps beta and its cost <P, M>, one problem per thread;
// or, instead of the plan, the implicit derivative of <P, M>, made while the problem is in cache.
//
// Symmetric problems: sinkhorn_symmetric.h. Where that does not apply or stops making progress,
// and for all others, sinkhorn_general.h takes over, problem by problem.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "exponential.h"
#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/sinkhorn.cpp"
#include "each_simd.h"
#include "sinkhorn_general.h"
#include "sinkhorn_symmetric.h"
#include "sinkhorn_system.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

template <typename T>
struct Batch {
  const T *cost, *epsilon, *row, *column, *initial;  // initial is null for a cold start
  int64_t rows, columns, stride;                     // stride: from cost to cost, 0 if shared
  int64_t max_iterations;
  double tolerance;
  bool symmetric;
  T *distance, *error;
  T *f, *g, *plan;                                       // null unless wanted
  int64_t* iterations;                                   // null unless wanted
  T *grad_cost, *grad_epsilon, *grad_row, *grad_column;  // all null unless wanted

  Problem<T> problem(int64_t item) const {
    return {cost + item * stride,
            row + item * rows,
            column + item * columns,
            initial ? initial + item * rows : nullptr,
            rows,
            columns,
            epsilon[item]};
  }
};

// What a path reports: whether it holds a plan, after how many iterations, and how far off.
struct Outcome {
  bool solved;
  int64_t steps;
  double error;  // of the plan, not yet relative
};

template <typename T>
RLSV_INLINE Outcome solve_symmetric(Symmetric<T>& path, const Problem<T>& problem, double mass,
                                    double enough, int64_t max_iterations) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!path.start(problem)) return {false, 0, 0.0};
  double best = kInfinity;
  int64_t since = 0;
  for (int64_t step = 0;; ++step) {
    const double error = path.measure();
    if (error <= enough || step == max_iterations) return {error < kInfinity, step, error};
    since = error < best ? 0 : since + 1;
    best = std::min(best, error);
    if (!(error < kInfinity) || since >= kSymmetricPatience || step >= kSymmetricMost)
      return {error <= Limits<T>::kNoise * mass, step, error};
    path.update(step);
  }
}

template <typename T>
RLSV_INLINE Outcome solve_general(General<T>& path, const Problem<T>& problem, double mass,
                                  double enough, int64_t steps, int64_t max_iterations) {
  if (!path.read(problem)) return {false, 0, 0.0};
  if (steps >= max_iterations) return {true, steps, path.stand()};
  double error = 0, best = std::numeric_limits<double>::infinity();
  bool absorb = true;
  for (int64_t since = 0; since < kGeneralPatience || error > Limits<T>::kNoise * mass;) {
    if (!absorb && !path.scale()) {
      path.potentials();
      absorb = true;
    }
    if (absorb) path.absorb();
    absorb = false;
    ++steps;
    error = path.column_error();
    if (error <= enough || steps == max_iterations) break;
    since = error < best ? 0 : since + 1;
    best = std::min(best, error);
  }
  path.potentials();
  return {true, steps, error};
}

// What a thread works with, made when it is needed.
template <typename T>
struct Paths {
  std::unique_ptr<Symmetric<T>> symmetric;
  std::unique_ptr<General<T>> general;
  std::unique_ptr<System<T, double>> system;
};

template <typename T>
RLSV_INLINE void write_symmetric(const Batch<T>& batch, Symmetric<T>& path,
                                 const Problem<T>& problem, int64_t item) {
  const int64_t size = batch.rows;
  if (batch.f) {
    T* f = batch.f + item * size;
    path.write_potentials(T(double(problem.epsilon) * kLn2), f);
    std::copy(f, f + size, batch.g + item * size);
  }
  batch.distance[item] = path.measure_cost(problem);
  if (batch.plan) path.write_plan(batch.plan + item * size * size);
  if (!batch.grad_cost) return;
  T* grad_row = batch.grad_row + item * size;
  batch.grad_epsilon[item] =
      path.write_gradient(problem, batch.grad_cost + item * size * size, grad_row);
  std::copy(grad_row, grad_row + size, batch.grad_column + item * size);
}

template <typename T>
RLSV_INLINE void write_general(const Batch<T>& batch, Paths<T>& paths, const Problem<T>& problem,
                               int64_t item) {
  const int64_t rows = batch.rows, columns = batch.columns;
  const General<T>& path = *paths.general;
  if (batch.f) {
    const T to_cost = T(double(problem.epsilon) * kLn2);
    for (int64_t i = 0; i < rows; ++i) batch.f[item * rows + i] = to_cost * path.alpha[i];
    for (int64_t j = 0; j < columns; ++j) batch.g[item * columns + j] = to_cost * path.beta[j];
  }
  write_plan(problem, path.kernel, path.width, path.x, path.y,
             batch.plan ? batch.plan + item * rows * columns : nullptr, batch.distance + item);
  if (!batch.grad_cost) return;
  if (!paths.system) paths.system = std::make_unique<System<T, double>>(rows, columns);
  System<T, double>& system = *paths.system;
  const Item<T> derived{problem.cost, problem.cost, rows, columns, problem.epsilon, true};
  system.read(derived, path.kernel, path.width, [&](int64_t i, int64_t j, Vec<double>& entry) {
    Vec<double> across;
    widen(path.y + j, across);
    entry *= across * double(path.x[i]);
  });
  system.solve_general(derived);
  batch.grad_epsilon[item] =
      system.write(derived, batch.grad_cost + item * rows * columns, batch.grad_row + item * rows,
                   batch.grad_column + item * columns);
}

// A problem without mass has the plan 0; one without a plan gets NaN.
template <typename T>
RLSV_INLINE void write_nothing(const Batch<T>& batch, int64_t item, bool empty) {
  const int64_t rows = batch.rows, columns = batch.columns, size = rows * columns;
  const T nan = std::numeric_limits<T>::quiet_NaN(), value = empty ? T(0) : nan;
  const T potential = empty ? -std::numeric_limits<T>::infinity() : nan;
  if (batch.f) {
    std::fill_n(batch.f + item * rows, rows, potential);
    std::fill_n(batch.g + item * columns, columns, potential);
  }
  batch.distance[item] = batch.error[item] = value;
  if (batch.plan) std::fill_n(batch.plan + item * size, size, value);
  if (!batch.grad_cost) return;
  std::fill_n(batch.grad_cost + item * size, size, value);
  std::fill_n(batch.grad_row + item * rows, rows, value);
  std::fill_n(batch.grad_column + item * columns, columns, value);
  batch.grad_epsilon[item] = value;
}

template <typename T>
RLSV_INLINE void solve_problems(const Batch<T>& batch, int64_t begin, int64_t end) {
  Paths<T> paths;
  for (int64_t item = begin; item < end; ++item) {
    const Problem<T> problem = batch.problem(item);
    double mass = 0;
    for (int64_t i = 0; i < batch.rows; ++i) mass += double(problem.row[i]);
    const double enough = batch.tolerance * mass;
    const bool sound = problem.epsilon > T(0) && mass > 0;
    Outcome outcome{false, 0, 0.0};
    if (sound && batch.symmetric) {
      if (!paths.symmetric) paths.symmetric = std::make_unique<Symmetric<T>>(batch.rows);
      outcome = solve_symmetric(*paths.symmetric, problem, mass, enough, batch.max_iterations);
      if (outcome.solved) write_symmetric(batch, *paths.symmetric, problem, item);
    }
    if (sound && !outcome.solved) {
      if (!paths.general) paths.general = std::make_unique<General<T>>(batch.rows, batch.columns);
      outcome =
          solve_general(*paths.general, problem, mass, enough, outcome.steps, batch.max_iterations);
      if (outcome.solved) write_general(batch, paths, problem, item);
    }
    if (outcome.solved)
      batch.error[item] = T(outcome.error / mass);
    else
      write_nothing(batch, item, problem.epsilon > T(0) && mass == 0);
    if (batch.iterations) batch.iterations[item] = outcome.steps;
  }
}

// Reads the problems and runs them; `give` says where what is wanted beside the distance goes.
template <typename Give>
std::tuple<Tensor, Tensor> solve(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                                 const Tensor& column, const Tensor& initial,
                                 int64_t max_iterations, double tolerance, bool symmetric,
                                 const Give& give) {
  check_sinkhorn(cost, epsilon, row, column, initial, symmetric);
  const int64_t items = epsilon.size(0), rows = cost.size(1), columns = cost.size(2);
  Tensor distance = torch::stable::empty_like(epsilon), error = torch::stable::empty_like(epsilon);
  dispatch_floating(cost, "sinkhorn", [&](auto zero) {
    using T = decltype(zero);
    Batch<T> batch{};
    batch.cost = read<T>(cost);
    batch.epsilon = read<T>(epsilon);
    batch.row = read<T>(row);
    batch.column = read<T>(column);
    batch.initial = initial.size(0) > 0 ? read<T>(initial) : nullptr;
    batch.rows = rows;
    batch.columns = columns;
    batch.stride = cost.size(0) == items ? rows * columns : 0;
    batch.max_iterations = max_iterations;
    batch.tolerance = tolerance;
    batch.symmetric = symmetric;
    batch.distance = write<T>(distance);
    batch.error = write<T>(error);
    give(batch);
    parallel(items, 2 * rows * columns,
             [&](int64_t begin, int64_t end) { solve_problems(batch, begin, end); });
  });
  return {distance, error};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sinkhorn_forward(
    const Tensor& cost, const Tensor& epsilon, const Tensor& row, const Tensor& column,
    const Tensor& initial, int64_t max_iterations, double tolerance, bool symmetric,
    bool want_plan) {
  const int64_t items = epsilon.size(0);
  Tensor plan = torch::stable::new_empty(cost, {want_plan ? items : 0, cost.size(1), cost.size(2)});
  Tensor f = torch::stable::empty_like(row), g = torch::stable::empty_like(column);
  Tensor iterations = torch::stable::new_empty(cost, {items}, ScalarType::Long);
  auto [distance, error] = solve(cost, epsilon, row, column, initial, max_iterations, tolerance,
                                 symmetric, [&]<typename T>(Batch<T>& batch) {
                                   batch.f = write<T>(f);
                                   batch.g = write<T>(g);
                                   batch.plan = want_plan ? write<T>(plan) : nullptr;
                                   batch.iterations = write<int64_t>(iterations);
                                 });
  return {distance, plan, f, g, iterations, error};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sinkhorn_distance(
    const Tensor& cost, const Tensor& epsilon, const Tensor& row, const Tensor& column,
    const Tensor& initial, int64_t max_iterations, double tolerance, bool symmetric) {
  Tensor grad_cost = torch::stable::new_empty(cost, {epsilon.size(0), cost.size(1), cost.size(2)});
  Tensor grad_epsilon = torch::stable::empty_like(epsilon);
  Tensor grad_row = torch::stable::empty_like(row), grad_column = torch::stable::empty_like(column);
  auto [distance, error] = solve(cost, epsilon, row, column, initial, max_iterations, tolerance,
                                 symmetric, [&]<typename T>(Batch<T>& batch) {
                                   batch.grad_cost = write<T>(grad_cost);
                                   batch.grad_epsilon = write<T>(grad_epsilon);
                                   batch.grad_row = write<T>(grad_row);
                                   batch.grad_column = write<T>(grad_column);
                                 });
  return {distance, error, grad_cost, grad_epsilon, grad_row, grad_column};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_sinkhorn_forward", sinkhorn_forward);
  RLSV_IMPL(m, "_sinkhorn_distance", sinkhorn_distance);
}
#endif
