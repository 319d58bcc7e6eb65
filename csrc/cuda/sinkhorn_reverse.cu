// The way back through n alternating Sinkhorn iterations, given the potentials of every one. With
// P^(A,B)_ij = exp(A_i + B_j - M_ij / eps), h = dL/dalpha, k = dL/dbeta, 0 <= i < N, 0 <= j < M:
// begins with Gamma = P o M, h = Gamma 1, k = Gamma' 1 at step n, and for every step
//   alpha^s:  h' = h / R 1;   k_j -= sum_i R_ij h'_i,  Gamma -= R o (h' 1'),
//             R = P^(alpha^s, beta^s)
//   beta^s:   k' = k / C' 1;  h_i = -sum_j C_ij k'_j,  Gamma -= C o (1 k'),
//             C = P^(alpha^(s-1), beta^s)
//   dL/dM = P - Gamma / eps,   dL/deps = sum_ij Gamma_ij M_ij / eps^2,
//   dL/da = sum_s h / a,   dL/db = sum_s k / b.
//
// R and C differ from a reference K by scalings x, y of rows and columns (cpu/sinkhorn_reverse.h):
// a half-step is two products with K, and Gamma is made for a block of half-steps at once. One
// block of threads per problem, K and the half-steps' scalings in shared memory where they fit;
// Gamma lives in dL/dM.
//
// Floors for float, N = M = 173, B = 8 (8 of 132 processors) on an H200, per iteration: three reads
// of K at 128 bytes a clock, 2,810 clocks, 1.6 us; six multiply-adds per entry at 128 a clock,
// 1,400 clocks, 0.8 us. Memory: the potentials, 2.8 kB, and Gamma every 16 iterations.
#include "../exponential.h"
#include "../sinkhorn_rules.h"
#include "sinkhorn_reverse.h"
#include "sinkhorn_sums.cuh"

namespace rlsv_fast::cuda {
namespace {

template <typename T, bool kResident>
struct Reverse {
  static constexpr int kPanel = int(kSinkhornPanel), kVectors = int(kSinkhornVectors);
  int rows, columns, height;  // height: rows, padded
  T *partial, *left, *right;  // left (panel, height), right (panel, columns)
  T *row_vectors, *column_vectors;
  T* kernel;
  const T* cost;
  T* gamma;
  T scale;  // of the cost, to exponents of two
  int pending = 0;

  // Pointers to all of them would take too many registers.
  __device__ __forceinline__ T* h() const { return row_vectors; }
  __device__ __forceinline__ T* x() const { return row_vectors + height; }
  __device__ __forceinline__ T* h_scaled() const { return row_vectors + 2 * height; }
  __device__ __forceinline__ T* reference_row() const { return row_vectors + 3 * height; }
  __device__ __forceinline__ T* by_row() const { return row_vectors + 4 * height; }
  __device__ __forceinline__ T* k() const { return column_vectors; }
  __device__ __forceinline__ T* y() const { return column_vectors + columns; }
  __device__ __forceinline__ T* k_scaled() const { return column_vectors + 2 * columns; }
  __device__ __forceinline__ T* reference_column() const { return column_vectors + 3 * columns; }
  __device__ __forceinline__ T* by_column() const { return column_vectors + 4 * columns; }

  // `workspace` is used where shared memory does not hold everything. Sizes: grid.h.
  __device__ __forceinline__ Reverse(int rows, int columns, T* workspace)
      : rows(rows), columns(columns), height((rows + kGroup - 1) / kGroup * kGroup) {
    partial = reinterpret_cast<T*>(slots() + kWarps);
    left = kResident ? partial + kWarps * kSinkhornTile : workspace;
    right = left + kPanel * height;
    row_vectors = right + kPanel * columns;
    column_vectors = row_vectors + kVectors * height;
    kernel = column_vectors + kVectors * columns;
  }

  __device__ __forceinline__ static double* slots() { return shared_memory<double>(); }

  __device__ __forceinline__ T& entry(int i, int j) const {
    return kernel[int64_t(i) * columns + j];
  }

  // finish(i, (K y)_i)
  template <typename Finish>
  __device__ __forceinline__ void multiply(const T* y, Finish finish) {
    sum_rows<T, 1>(
        rows, columns, [&](int i, int j, T(&sums)[1]) { sums[0] += entry(i, j) * y[j]; },
        [&](int i, const T(&sums)[1]) { finish(i, sums[0]); });
  }

  // finish(j, (K' x)_j)
  template <typename Finish>
  __device__ __forceinline__ void multiply_transposed(const T* x, Finish finish) {
    sum_columns<T>(
        rows, columns, partial, [&](int i, int j) { return entry(i, j) * x[i]; }, finish);
  }

  // K = P^(reference).
  __device__ __forceinline__ void rebuild(const T* alpha, const T* beta) {
    flush();
    each(rows, [&](int i) { reference_row()[i] = alpha[i]; });
    each(columns, [&](int j) { reference_column()[j] = beta[j]; });
    __syncthreads();
    const int lane = lane_index();
    for (int i = warp_index(); i < rows; i += kWarps)
#pragma unroll 2
      for (int j = lane; j < columns; j += int(kWarp))
        entry(i, j) = power_of_two(
            scale * cost[int64_t(i) * columns + j] + reference_column()[j] + reference_row()[i],
            Limits<T>::kLowest);
    __syncthreads();
  }

  // result = 2^(potential - reference), 0 for -inf. False where one is out of reach.
  __device__ __forceinline__ bool scalings(const T* potential, const T* reference, int count,
                                           T* result) {
    bool near = true;
    each(count, [&](int i) {
      const T to = potential[i], change = to > -T(INFINITY) ? to - reference[i] : T(0);
      near = near && std::abs(change) <= Limits<T>::kReach;
      result[i] = to > -T(INFINITY) ? power_of_two(change, -Limits<T>::kReach - T(1)) : T(0);
    });
    return near;
  }

  // Makes x and y so that P^(alpha, beta) = diag(x) K diag(y).
  __device__ __forceinline__ void aim(const T* alpha, const T* beta) {
    const bool near = scalings(alpha, reference_row(), rows, x());
    if (__syncthreads_and(scalings(beta, reference_column(), columns, y()) && near)) return;
    rebuild(alpha, beta);
    scalings(alpha, reference_row(), rows, x());
    scalings(beta, reference_column(), columns, y());
    __syncthreads();
  }

  // Gamma -= K o (left' right) over the pending half-steps. A warp takes four rows, a lane two
  // columns: per half-step two loads and one of four numbers at once for eight products.
  __device__ __forceinline__ void flush() {
    if (pending == 0) return;
    __syncthreads();
    const int lane = lane_index();
    for (int i = warp_index() * kGroup; i < rows; i += kWarps * kGroup)
      for (int j = lane; j < columns; j += 2 * int(kWarp)) {
        const int at[2] = {j, j + int(kWarp) < columns ? j + int(kWarp) : j};
        T totals[2][kGroup] = {};
#pragma unroll 2
        for (int step = 0; step < pending; ++step) {
          const T across[2] = {right[step * columns + at[0]], right[step * columns + at[1]]};
          const auto* down = reinterpret_cast<const Pack<T>*>(left + step * height + i);
#pragma unroll
          for (int row = 0; row < kGroup; ++row)
#pragma unroll
            for (int side = 0; side < 2; ++side)
              totals[side][row] +=
                  across[side] * down[row / Pack<T>::kLanes].lane[row % Pack<T>::kLanes];
        }
#pragma unroll
        for (int row = 0; row < kGroup; ++row)
#pragma unroll
          for (int side = 0; side < 2; ++side)
            if (i + row < rows && j + side * int(kWarp) < columns)
              gamma[int64_t(i + row) * columns + at[side]] -=
                  entry(i + row, at[side]) * totals[side][row];
      }
    pending = 0;
    __syncthreads();
  }

  __device__ __forceinline__ void remember(const T* down, const T* across) {
    each(rows, [&](int i) { left[pending * height + i] = down[i]; });
    each(columns, [&](int j) { right[pending * columns + j] = across[j]; });
    if (++pending == kPanel) flush();
  }

  // Undoes alpha^s, with x and y at (alpha^s, beta^s): h is used up, k grows.
  __device__ __forceinline__ void undo_rows(const T* row) {
    sweep_rows<T>(
        rows, columns, y(), h_scaled(), partial, [&](int i, int j) { return entry(i, j); },
        [&](int i, T product) {
          const T mass = x()[i] * product, flow = h()[i];
          by_row()[i] += row[i] < Exponent<T>::kSmallest ? T(0) : flow / row[i];
          return mass > T(0) ? x()[i] * (flow / mass) : T(0);
        },
        [&](int j, T product) { k()[j] -= y()[j] * product; });
  }

  // Undoes beta^s, with x and y at (alpha^(s-1), beta^s): k is used up, h made anew.
  __device__ __forceinline__ void undo_columns(const T* column) {
    multiply_transposed(x(), [&](int j, T product) {
      const T mass = y()[j] * product, flow = k()[j];
      by_column()[j] += column[j] < Exponent<T>::kSmallest ? T(0) : flow / column[j];
      k_scaled()[j] = mass > T(0) ? y()[j] * (flow / mass) : T(0);
      k()[j] = T(0);
    });
    multiply(k_scaled(), [&](int i, T product) { h()[i] = -x()[i] * product; });
  }

  // K, Gamma, h and k of the last step.
  __device__ __forceinline__ void start(const SinkhornReverse<T>& in, int64_t item,
                                        const T* alpha) {
    each(rows, [&](int i) { by_row()[i] = T(0); });
    each(columns, [&](int j) { by_column()[j] = T(0); });
    rebuild(alpha, alpha + rows);
    sum_rows<T, 1>(
        rows, columns,
        [&](int i, int j, T(&sums)[1]) {
          const T flow = entry(i, j) * cost[int64_t(i) * columns + j];
          gamma[int64_t(i) * columns + j] = flow;
          sums[0] += flow;
        },
        [&](int i, const T(&sums)[1]) { h()[i] = sums[0]; });
    sum_columns<T>(
        rows, columns, partial, [&](int i, int j) { return gamma[int64_t(i) * columns + j]; },
        [&](int j, T total) { k()[j] = total; });
  }

  __device__ __forceinline__ void write(const SinkhornReverse<T>& in, int64_t item) {
    const T upstream = in.grad[item], epsilon = in.epsilon[item];
    const int lane = lane_index();
    double by_epsilon = 0;
    for (int i = warp_index(); i < rows; i += kWarps) {
      T total = T(0);
#pragma unroll 2
      for (int j = lane; j < columns; j += int(kWarp)) {
        const int64_t at = int64_t(i) * columns + j;
        const T change = gamma[at] / epsilon;
        gamma[at] = upstream * (entry(i, j) - change);
        total += change * cost[at];
      }
      by_epsilon += double(total);
    }
    each(rows, [&](int i) { in.grad_row[item * rows + i] = upstream * by_row()[i]; });
    each(columns, [&](int j) { in.grad_column[item * columns + j] = upstream * by_column()[j]; });
    by_epsilon = block_reduce<kThreads>(by_epsilon, slots());
    if (threadIdx.x == 0) in.grad_epsilon[item] = upstream * T(by_epsilon / double(epsilon));
  }

  __device__ __forceinline__ void run(const SinkhornReverse<T>& in, int64_t item) {
    const int width = rows + columns;
    const T* history = in.potentials + item * (in.iterations + 1) * width;
    const T* last = history + in.iterations * width;
    cost = in.cost + item * rows * columns;
    gamma = in.grad_cost + item * rows * columns;
    if (history[0] != T(0)) {  // no mass to transport, or no plan
      const T value = history[0] != history[0] ? history[0] : T(0);
      for (int64_t at = threadIdx.x; at < int64_t(rows) * columns; at += kThreads)
        gamma[at] = value;
      each(rows, [&](int i) { in.grad_row[item * rows + i] = value; });
      each(columns, [&](int j) { in.grad_column[item * columns + j] = value; });
      if (threadIdx.x == 0) in.grad_epsilon[item] = value;
      return;
    }
    scale = T(-kLog2E / double(in.epsilon[item]));
    start(in, item, last);
    for (int64_t half = 2 * in.iterations; half > 0; --half) {
      const T *alpha = history + half / 2 * width, *beta = history + (half + 1) / 2 * width + rows;
      aim(alpha, beta);
      if (half % 2 == 0)
        undo_rows(in.row + item * rows);
      else
        undo_columns(in.column + item * columns);
      remember(half % 2 == 0 ? h_scaled() : x(), half % 2 == 0 ? y() : k_scaled());
    }
    flush();
    if (in.iterations > 0) rebuild(last, last + rows);
    write(in, item);
    __syncthreads();  // the vectors are used again
  }
};

template <typename T, bool kResident>
__global__ void __launch_bounds__(kSinkhornThreads, 1)
    reverse(SinkhornReverse<T> in, T* workspace, int64_t numbers) {
  Reverse<T, kResident> back(int(in.rows), int(in.columns), workspace + blockIdx.x * numbers);
  for (int64_t item = blockIdx.x; item < in.items; item += gridDim.x) back.run(in, item);
}

template <typename T>
cudaError_t find_grid(const SinkhornReverse<T>& in, SinkhornReverseGrid& grid) {
  Device device;
  const cudaError_t error = find_device(device);
  if (error == cudaSuccess)
    grid = sinkhorn_reverse_grid(device, in.items, in.rows, in.columns, sizeof(T));
  return error;
}

}  // namespace

template <typename T>
cudaError_t sinkhorn_reverse_workspace(const SinkhornReverse<T>& in, int64_t& count) {
  SinkhornReverseGrid grid{};
  const cudaError_t error = find_grid(in, grid);
  count = grid.grid.blocks * grid.workspace;
  return error;
}

template <typename T>
cudaError_t sinkhorn_reverse(const SinkhornReverse<T>& in, T* workspace, cudaStream_t stream) {
  SinkhornReverseGrid grid{};
  const cudaError_t error = find_grid(in, grid);
  if (error != cudaSuccess) return error;
  const auto kernel = grid.resident ? reverse<T, true> : reverse<T, false>;
  return launch(kernel, grid.grid, stream, in, workspace, grid.workspace);
}

#define RLSV_INSTANTIATE(T)                                                                \
  template cudaError_t sinkhorn_reverse_workspace<T>(const SinkhornReverse<T>&, int64_t&); \
  template cudaError_t sinkhorn_reverse<T>(const SinkhornReverse<T>&, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
