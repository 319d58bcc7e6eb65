// Alternating Sinkhorn for any cost by one block, columns first and rows last:
//   beta_j = log b_j - log sum_i exp(alpha_i - M_ij / eps),    0 <= j < M
//   alpha_i = log a_i - log sum_j exp(beta_j - M_ij / eps),    0 <= i < N,   from alpha = 0,
//   P_ij = exp(alpha_i + beta_j - M_ij / eps),    or from the alpha of potentials that are given.
//
// Potentials u, v are absorbed in a density K_ij = 2^(u_i + v_j - M_ij log2(e) / eps), which an
// ordinary iteration only scales, P_ij = x_i K_ij y_j. An iteration whose sums leave the safe range
// is made again in the log domain. As cpu/sinkhorn_general.h, which says why, and which turns to
// the log domain only where a new density alone does not do.
#pragma once

#include "../exponential.h"
#include "../sinkhorn_rules.h"
#include "sinkhorn.cuh"
#include "sinkhorn.h"
#include "sinkhorn_sums.cuh"

namespace rlsv_fast::cuda {

// What a block of kWarps works in. Vectors of columns are padded with zeros to whole packs.
template <typename T, int kWarps, bool kResident>
struct Space {
  double* slots;                // one per warp, in shared memory
  T* scratch;                   // a panel per warp, in shared memory
  T *x, *x_next, *u;            // per row
  T *y, *y_next, *v;            // per column
  Matrix<T, kResident> kernel;  // in shared memory, or in the block's workspace

  // The sums of a block may take turns in `slots`.
  __device__ __forceinline__ T* narrow_slots() const { return reinterpret_cast<T*>(slots); }
};

constexpr int64_t kRowVectors = 3, kColumnVectors = 3;

inline SinkhornGrid space_grid(const Device& device, int64_t items, int64_t rows, int64_t columns,
                               int64_t bytes) {
  return sinkhorn_grid(device, items, rows, columns, kRowVectors, kColumnVectors, bytes);
}

// The space of a block, padding cleared. `workspace` is its own, and unused where resident.
template <typename T, int kWarps, bool kResident>
__device__ __forceinline__ Space<T, kWarps, kResident> make_space(int rows, int columns,
                                                                  T* workspace) {
  constexpr int kPad = Panel<T>::kLanes;
  const int height = (rows + kPad - 1) / kPad * kPad;
  const int width = (columns + kPad - 1) / kPad * kPad;
  Space<T, kWarps, kResident> space;
  space.slots = shared_memory<double>();
  space.scratch = reinterpret_cast<T*>(space.slots + kWarps);
  T* next = kResident ? space.scratch + kWarps * width : workspace;
  space.kernel = {next, rows, columns, width};
  space.x = next + int64_t(rows) * width;
  space.x_next = space.x + height;
  space.u = space.x_next + height;
  space.y = space.u + height;
  space.y_next = space.y + width;
  space.v = space.y_next + width;
  const int pad = width - columns;
  constexpr int kThreads = kWarps * int(kWarp);
  for (int64_t i = threadIdx.x; i < int64_t(rows) * pad; i += kThreads)
    space.kernel.row(int(i / pad))[columns + i % pad] = T(0);
  for (int j = columns + threadIdx.x; j < width; j += kThreads) space.y[j] = space.y_next[j] = T(0);
  __syncthreads();
  return space;
}

template <typename T>
struct Problem {
  const T *cost, *row, *column;  // (N, M), (N), (M)
  int rows, columns;
  T epsilon, mass;  // mass: of the rows

  // In base 2.
  __device__ __forceinline__ T scale() const { return T(-kLog2E / double(epsilon)); }
};

// Problem `item` of a batch; a barrier lies before and behind its only sum.
template <int kWarps, typename T>
__device__ __forceinline__ Problem<T> read_problem(const Sinkhorn<T>& in, int64_t item,
                                                   double* slots) {
  Problem<T> problem{in.cost + item * in.stride,
                     in.row + item * in.rows,
                     in.column + item * in.columns,
                     int(in.rows),
                     int(in.columns),
                     in.epsilon[item],
                     T(0)};
  constexpr int kThreads = kWarps * int(kWarp);
  double mass = 0;
  for (int i = threadIdx.x; i < problem.rows; i += kThreads) mass += double(problem.row[i]);
  problem.mass = T(block_reduce<kThreads>(mass, slots));
  return problem;
}

template <int kWarps, typename T>
__device__ __forceinline__ void fill(T* values, int64_t count, T value) {
  for (int64_t i = threadIdx.x; i < count; i += kWarps * int(kWarp)) values[i] = value;
}

template <typename T>
__device__ __forceinline__ void exchange(T*& first, T*& second) {
  T* kept = first;
  first = second;
  second = kept;
}

// P = diag(x) K diag(y) into `plan`, which may be null; returns <P, M>, rows added in double.
template <typename T, int kWarps, bool kResident>
__device__ __forceinline__ T write_plan(const Problem<T>& problem,
                                        const Space<T, kWarps, kResident>& space, const T* x,
                                        const T* y, T* plan) {
  const Matrix<T, kResident>& kernel = space.kernel;
  double total = 0;
  each_group<kWarps>(problem.rows, [&](int first) {
    const T row = reduce_rows(problem.cost, first, problem.rows, problem.columns, T(0),
                              [&](int k, int j, T cost) {
                                const int i = first + k;
                                const T entry = kernel.row(i)[j] * (y[j] * x[i]);
                                if (plan) plan[int64_t(i) * problem.columns + j] = entry;
                                return entry * cost;
                              });
    if (lane_index() < kGroup && first + lane_index() < problem.rows) total += double(row);
  });
  return T(block_reduce<kWarps* int(kWarp)>(total, space.slots));
}

template <typename T, int kWarps, bool kResident>
struct General {
  static constexpr int kThreads = kWarps * int(kWarp);

  const Problem<T>& problem;
  Space<T, kWarps, kResident>& space;
  T scale;              // -log2(e) / eps
  T error = T(0);       // of the plan, its columns against b: its rows are a by construction
  T gap = T(0);         // this thread's part of it
  bool unsafe = false;  // whether a column of this thread has a sum out of the safe range

  __device__ __forceinline__ General(const Problem<T>& problem, Space<T, kWarps, kResident>& space)
      : problem(problem), space(space), scale(problem.scale()) {}

  // Makes alpha of the f to start from. False where a number of that or of the cost is not finite:
  // no plan exists then.
  __device__ __forceinline__ bool start(T* f) const {
    bool all = true;
    each<kWarps>(problem.rows, [&](int i) {
      const T given = f[i];
      const bool unknown = given == -T(INFINITY);  // or right, where nothing is wanted
      const T level = unknown && problem.row[i] > T(0) ? T(0) : given * -scale;
      f[i] = level;
      all &= unknown || level * T(0) == T(0);
    });
    const int64_t count = int64_t(problem.rows) * problem.columns;
#pragma unroll 8
    for (int64_t i = threadIdx.x; i < count; i += kThreads) all &= problem.cost[i] * T(0) == T(0);
    return __syncthreads_and(all);
  }

  __device__ __forceinline__ static bool inside(T sum) {
    return sum >= Limits<T>::kSmall && sum <= Limits<T>::kLarge;
  }

  // Takes sum_i x_i K_ij: the error of column j, and its scaling in the next iteration.
  __device__ __forceinline__ void take_column(int j, T sum) {
    const T want = problem.column[j];
    gap += std::abs(sum * space.y[j] - want);
    unsafe = unsafe || (want > T(0) && !inside(sum));
    space.y_next[j] = want > T(0) ? want / sum : T(0);
  }

  // From the sums of columns to `error`.
  __device__ __forceinline__ void finish_columns(bool& flag) {
    error = tally<kWarps>(gap, flag, space.narrow_slots());
  }

  // One iteration on the scalings. False, with x untouched, where a sum leaves the safe range.
  __device__ __forceinline__ bool iterate() {
    bool failed = unsafe;
    gap = T(0);
    unsafe = false;
    exchange(space.y, space.y_next);
    sweep<kWarps>(
        space.kernel, space.y, space.x_next, space.scratch,
        [&](int i, T sum) {
          const T want = problem.row[i];
          failed = failed || (want > T(0) && !inside(sum));
          return want > T(0) ? want / sum : T(0);
        },
        [&](int j, T sum) { take_column(j, sum); });
    finish_columns(failed);
    if (!failed) exchange(space.x, space.x_next);
    return !failed;
  }

  // One iteration in the log domain from alpha to beta; leaves x = a, y = b and a new density.
  __device__ __forceinline__ void absorb(const T* alpha, T* beta) {
    const int rows = problem.rows, columns = problem.columns;
    T *x = space.x, *y = space.y, *u = space.u, *v = space.v, *inverse = space.y_next;
    __syncthreads();
    reduce_columns<kWarps>(
        problem.cost, rows, columns, space.scratch, -T(INFINITY),
        [&](int i, int, T cost) { return cost * scale + alpha[i]; },
        [&](int j, T top) { v[j] = -top; }, Maximum{});
    __syncthreads();
    reduce_columns<kWarps>(
        problem.cost, rows, columns, space.scratch, T(0),
        [&](int i, int j, T cost) {
          return power_of_two(cost * scale + (alpha[i] + v[j]), Limits<T>::kLowest);
        },
        [&](int j, T sum) {
          const T want = problem.column[j], level = v[j] - logarithm(sum);
          v[j] = level;
          beta[j] = level + logarithm(want);
          y[j] = want;
          inverse[j] = want < Exponent<T>::kSmallest ? T(0) : T(1) / want;
        });
    __syncthreads();
    each_group<kWarps>(rows, [&](int first) {
      T* row = space.kernel.row(first);
      const int stride = space.kernel.stride, i = first + lane_index();
      T level[kGroup], share[kGroup];
      const T top = reduce_rows(
          problem.cost, first, rows, columns, -T(INFINITY),
          [&](int, int j, T cost) { return cost * scale + beta[j]; }, Maximum{});
      spread_four(top, level);
      const T sum =
          reduce_rows(problem.cost, first, rows, columns, T(0), [&](int k, int j, T cost) {
            const T power = power_of_two(cost * scale + beta[j] - level[k], Limits<T>::kLowest);
            row[int64_t(k) * stride + j] = power * inverse[j];
            return power;
          });
      spread_four(T(1) / sum, share);
      if (lane_index() < kGroup && i < rows) {
        u[i] = -top - logarithm(sum);
        x[i] = problem.row[i];
      }
      // Every lane meets the entries that it wrote.
      for (int j = lane_index(); j < columns; j += kWarp)
#pragma unroll
        for (int k = 0; k < kGroup; ++k)
          if (first + k < rows) row[int64_t(k) * stride + j] *= share[k];
    });
    __syncthreads();
    sum_columns();
  }

  // alpha = unit (u + log2 x), beta = unit (v + log2 y).
  __device__ __forceinline__ void write_potentials(T unit, T* alpha, T* beta) const {
    for (int i = threadIdx.x; i < problem.rows; i += kThreads)
      alpha[i] = unit * (space.u[i] + logarithm(space.x[i]));
    for (int j = threadIdx.x; j < problem.columns; j += kThreads)
      beta[j] = unit * (space.v[j] + logarithm(space.y[j]));
  }

  // The plan of no iteration, beta = 0; its error is the worse of rows and columns.
  __device__ __forceinline__ void stand(const T* alpha) {
    fill<kWarps>(space.x, problem.rows, T(1));
    for (int i = threadIdx.x; i < problem.rows; i += kThreads) space.u[i] = alpha[i];
    fill<kWarps>(space.y, problem.columns, T(1));
    fill<kWarps>(space.v, problem.columns, T(0));
    double row_gap = 0;
#pragma unroll 1
    for (int i = warp_index(); i < problem.rows; i += kWarps) {
      const T* cost = problem.cost + int64_t(i) * problem.columns;
      T *row = space.kernel.row(i), sum = T(0);
#pragma unroll 1
      for (int j = lane_index(); j < problem.columns; j += int(kWarp))
        sum += row[j] = power_of_two(cost[j] * scale + alpha[i], Limits<T>::kLowest);
      sum = warp_reduce(sum);
      if (lane_index() == 0) row_gap += std::abs(double(sum) - double(problem.row[i]));
    }
    __syncthreads();
    sum_columns();
    row_gap = block_reduce<kThreads>(row_gap, space.slots);
    if (row_gap > double(error)) error = T(row_gap);
  }

 private:
  __device__ __forceinline__ void sum_columns() {
    bool nothing = false;
    gap = T(0);
    unsafe = false;
    multiply_transposed<kWarps>(space.kernel, space.x, space.scratch,
                                [&](int j, T sum) { take_column(j, sum); });
    finish_columns(nothing);
  }
};

}  // namespace rlsv_fast::cuda
