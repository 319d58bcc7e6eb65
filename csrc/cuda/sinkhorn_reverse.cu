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
// R and C differ from a reference K by scalings x, y of rows and columns (cpu/sinkhorn_reverse.h),
// and Gamma is made for a block of half-steps at once. A step is one stream over K: row i gives h_i
// of the step before it (K k'), its own sum (K y) and so h'_i, and what it adds to K' h' and to K'
// x. One block of threads per problem, K and the half-steps' scalings in shared memory where they
// fit; Gamma lives in dL/dM.
//
// Floors for float, N = M = 173, B = 8 (8 of 132 processors) on an H200, per iteration: one read of
// K at 128 bytes a clock, 950 clocks, 0.54 us; six multiply-adds per entry at 128 a clock, 1,400
// clocks, 0.8 us. Memory: the potentials, 2.8 kB, and Gamma every 16 iterations.
#include "sinkhorn_reverse.cuh"

namespace rlsv_fast::cuda {
namespace {

template <typename T, int kWarps, bool kResident>
struct Reverse : HalfSteps<T, kWarps, kResident> {
  typedef HalfSteps<T, kWarps, kResident> Kept;
  using Kept::aim, Kept::by_column, Kept::by_row, Kept::cost, Kept::filled, Kept::flush,
      Kept::gamma, Kept::h, Kept::HalfSteps, Kept::k, Kept::kernel, Kept::kSlots, Kept::kThreads,
      Kept::latest, Kept::left, Kept::rebuild, Kept::right, Kept::scale, Kept::scratch, Kept::sums;

  const T *row, *column;  // the weights

  // h'_i, given x_i and (K y)_i; h is used up.
  __device__ __forceinline__ T take_row(int i, T x, T sum) const {
    const T mass = x * sum, flow = h()[i], weight = row[i];
    by_row()[i] += weight < Exponent<T>::kSmallest ? T(0) : flow / weight;
    return mass > T(0) ? x * (flow / mass) : T(0);
  }

  // k'_j, given y_j and (K' x)_j; k is used up.
  __device__ __forceinline__ T take_column(int j, T y, T sum) const {
    const T mass = y * sum, flow = k()[j], weight = column[j];
    by_column()[j] += weight < Exponent<T>::kSmallest ? T(0) : flow / weight;
    k()[j] = T(0);
    return mass > T(0) ? y * (flow / mass) : T(0);
  }

  // What a pass over K does, of: h from k' of step s + 1; alpha^s undone, with x in slot `latest`,
  // y and then h' in slot `filled`; beta^s undone, with x of alpha^(s-1) and then k' in slot `to`.
  enum Parts { kFindH = 1, kUndoRows = 2, kUndoColumns = 4 };

  __device__ __forceinline__ void pass(int parts, int to) {
    const T *x = left(latest), *y = right(filled), *x_before = left(to);
    T *h_scaled = left(filled), *k_scaled = right(to);
    const auto find_h = [&](int i, T sum) { h()[i] = -x[i] * sum; };
    const auto undo_row = [&](int i, T sum) { return take_row(i, x[i], sum); };
    const auto add_to_k = [&](int j, T sum) { k()[j] -= y[j] * sum; };
    const auto undo_column = [&](int j, T sum) { k_scaled[j] = take_column(j, y[j], sum); };
    if (kernel.wide()) {
      if (parts & kFindH) multiply<kWarps>(kernel, right(latest), find_h);
      __syncthreads();
      if (parts & kUndoRows) sweep<kWarps>(kernel, y, h_scaled, scratch(), undo_row, add_to_k);
      __syncthreads();
      if (parts & kUndoColumns)
        multiply_transposed<kWarps>(kernel, x_before, scratch(), undo_column);
      __syncthreads();
      return;
    }
    constexpr int kPacks = Panel<T>::kPacks;
    const int stride = kernel.stride, lane = lane_index();
    const T* flows = right(latest);
    Pack<T> by_flow[kPacks] = {}, by_scaling[kPacks] = {};
    each_group<kWarps>(kernel.rows, [&](int first) {
      Pack<T> tile[kGroup][kPacks], strip[kPacks];  // a strip at a time spares registers
      T sums[kGroup] = {}, masses[kGroup] = {}, weight[kGroup], flow = T(0), scaling = T(0);
      load_tile(kernel, first, 0, tile);
      load_strip(flows, stride, 0, strip);
      add_products(tile, strip, sums);
      load_strip(y, stride, 0, strip);
      add_products(tile, strip, masses);
      const T sum = reduce_four(sums), mass = reduce_four(masses);
      const int i = first + lane;
      if (lane < kGroup && i < kernel.rows) {
        if (parts & kFindH) find_h(i, sum);
        if (parts & kUndoRows) h_scaled[i] = flow = undo_row(i, mass);
        if (parts & kUndoColumns) scaling = x_before[i];
      }
      spread_four(flow, weight);
      add_rows(tile, weight, by_flow);
      spread_four(scaling, weight);
      add_rows(tile, weight, by_scaling);
    });
    if (parts & kUndoRows) {
      store_strip(by_flow, stride, scratch());
      join_strips<kWarps>(scratch(), stride, 0, kernel.columns, add_to_k);
    }
    __syncthreads();
    if (parts & kUndoColumns) {
      store_strip(by_scaling, stride, scratch());
      join_strips<kWarps>(scratch(), stride, 0, kernel.columns, undo_column);
    }
    __syncthreads();
  }

  // Undoes step s, from alpha^s and beta^s to `before` = alpha^(s-1). Where these are out of reach
  // of each other, one half-step after the other, with a reference for each. `known`: h is, as in
  // the last step.
  __device__ __forceinline__ void undo(const T* alpha, const T* before, const T* beta, bool known) {
    if (filled + 2 > kSlots) flush();
    const int unknown = known ? 0 : int(kFindH);
    const bool near = aim(before, beta, filled + 1, filled);
    int parts = near ? unknown | kUndoRows | kUndoColumns : unknown, to = filled + 1;
#pragma unroll 1
    for (;;) {
      pass(parts, to);
      if (parts & kUndoColumns) break;
      const bool rows_next = !(parts & kUndoRows);
      if (!rows_next) filled = 1;
      flush();
      rebuild(rows_next ? alpha : before, beta);
      latest = kSlots - 1;
      to = 0;
      aim(rows_next ? alpha : before, beta, rows_next ? latest : to, 0);
      parts = rows_next ? kUndoRows : kUndoColumns;
    }
    latest = to;
    filled = to + 1;
  }

  // K, Gamma, h and k of the last step.
  __device__ __forceinline__ void start(const T* alpha) {
    const int rows = kernel.rows, columns = kernel.columns;
    each<kWarps>(rows, [&](int i) { by_row()[i] = T(0); });
    each<kWarps>(columns, [&](int j) { by_column()[j] = T(0); });
    rebuild(alpha, alpha + rows);
    latest = kSlots - 1;
    aim(alpha, alpha + rows, latest, 0);
    each_group<kWarps>(rows, [&](int first) {
      const T sum = reduce_rows(cost, first, rows, columns, T(0), [&](int k, int j, T entry) {
        const T flow = kernel.row(first + k)[j] * entry;
        gamma[int64_t(first + k) * columns + j] = flow;
        return flow;
      });
      if (lane_index() < kGroup && first + lane_index() < rows) h()[first + lane_index()] = sum;
    });
    __syncthreads();
    reduce_columns<kWarps>(
        gamma, rows, columns, scratch(), T(0), [&](int, int, T entry) { return entry; },
        [&](int j, T sum) { k()[j] = sum; });
    __syncthreads();
  }

  __device__ __forceinline__ void write(const SinkhornReverse<T>& in, int64_t item) {
    const int rows = kernel.rows, columns = kernel.columns, lane = lane_index();
    const T upstream = in.grad[item], epsilon = in.epsilon[item];
    T *grad_row = in.grad_row + item * rows, *grad_column = in.grad_column + item * columns;
    double by_epsilon = 0;
    for (int i = warp_index(); i < rows; i += kWarps) {
      T total = T(0);
#pragma unroll 2
      for (int j = lane; j < columns; j += int(kWarp)) {
        const int64_t at = int64_t(i) * columns + j;
        const T change = gamma[at] / epsilon;
        gamma[at] = upstream * (kernel.row(i)[j] - change);
        total += change * cost[at];
      }
      by_epsilon += double(total);
    }
    each<kWarps>(rows, [&](int i) { grad_row[i] = upstream * by_row()[i]; });
    each<kWarps>(columns, [&](int j) { grad_column[j] = upstream * by_column()[j]; });
    by_epsilon = block_reduce<kThreads>(by_epsilon, sums);
    if (threadIdx.x == 0) in.grad_epsilon[item] = upstream * T(by_epsilon / double(epsilon));
  }

  __device__ __forceinline__ void run(const SinkhornReverse<T>& in, int64_t item) {
    const int rows = kernel.rows, columns = kernel.columns, width = rows + columns;
    const T* history = in.potentials + item * (in.iterations + 1) * width;
    const T* last = history + in.iterations * width;
    cost = in.cost + item * rows * columns;
    gamma = in.grad_cost + item * rows * columns;
    if (history[0] != T(0)) {  // no mass to transport, or no plan
      const T value = history[0] != history[0] ? history[0] : T(0);
      for (int64_t at = threadIdx.x; at < int64_t(rows) * columns; at += kThreads)
        gamma[at] = value;
      each<kWarps>(rows, [&](int i) { in.grad_row[item * rows + i] = value; });
      each<kWarps>(columns, [&](int j) { in.grad_column[item * columns + j] = value; });
      if (threadIdx.x == 0) in.grad_epsilon[item] = value;
      return;
    }
    row = in.row + item * rows;
    column = in.column + item * columns;
    scale = T(-kLog2E / double(in.epsilon[item]));
    start(last);
#pragma unroll 1
    for (int64_t step = in.iterations; step > 0; --step) {
      const T* alpha = history + step * width;
      undo(alpha, alpha - width, alpha + rows, step == in.iterations);
    }
    flush();
    if (in.iterations > 0) rebuild(last, last + rows);
    write(in, item);
    __syncthreads();  // the vectors are used again
  }
};

template <typename T, int kWarps, bool kResident>
__global__ void __launch_bounds__(kWarps* int(kWarp), 1)
    reverse(SinkhornReverse<T> in, T* workspace, int64_t numbers) {
  Reverse<T, kWarps, kResident> back(int(in.rows), int(in.columns),
                                     workspace + blockIdx.x * numbers);
  for (int64_t item = blockIdx.x; item < in.items; item += gridDim.x) back.run(in, item);
}

template <typename T>
cudaError_t find_grid(const SinkhornReverse<T>& in, SinkhornGrid& grid) {
  Device device;
  const cudaError_t error = find_device(device);
  if (error == cudaSuccess)
    grid = sinkhorn_reverse_grid(device, in.items, in.rows, in.columns, sizeof(T));
  return error;
}

}  // namespace

template <typename T>
cudaError_t sinkhorn_reverse_workspace(const SinkhornReverse<T>& in, int64_t& count) {
  SinkhornGrid grid{};
  const cudaError_t error = find_grid(in, grid);
  count = grid.grid.blocks * grid.workspace;
  return error;
}

template <typename T>
cudaError_t sinkhorn_reverse(const SinkhornReverse<T>& in, T* workspace, cudaStream_t stream) {
  SinkhornGrid grid{};
  const cudaError_t error = find_grid(in, grid);
  if (error != cudaSuccess) return error;
  return launch(grid.resident ? reverse<T, block_warps<T>(true), true>
                              : reverse<T, block_warps<T>(false), false>,
                grid.grid, stream, in, workspace, grid.workspace);
}

#define RLSV_INSTANTIATE(T)                                                                \
  template cudaError_t sinkhorn_reverse_workspace<T>(const SinkhornReverse<T>&, int64_t&); \
  template cudaError_t sinkhorn_reverse<T>(const SinkhornReverse<T>&, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
