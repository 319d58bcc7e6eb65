// What the Sinkhorn kernels share: products of one block with a matrix of its own, which it made
// with padded rows and one type throughout, and what those are built of. Matrices as they were
// given, or of another type than the sums: sinkhorn_sums.cuh. Every sum has a fixed order.
//
// Warps take groups of four rows, lanes take columns. Four rows in flight share one load of a
// vector and one tree of shuffles, and keep the loads coming. Columns are summed in registers over
// a warp's rows, panel by panel, and the warps' sums are added in order through shared memory.
#pragma once

#include "kernel.cuh"
#include "reduce.cuh"

namespace rlsv_fast::cuda {

constexpr int kGroup = 4;

// A panel: the columns that a warp holds at once, as in grid.h.
template <typename T>
struct Panel {
  static constexpr int kLanes = Pack<T>::kLanes;
  static constexpr int kColumns = int(sinkhorn_panel(sizeof(T)));
  static constexpr int kPacks = kColumns / (int(kWarp) * kLanes);
};

// A matrix whose rows are padded with zeros to whole packs, 16-byte aligned; kNarrow: of one panel.
// Rows and columns are counted in int, to spare registers; positions are not.
template <typename T, bool kNarrow>
struct Matrix {
  T* entries;
  int rows, columns, stride;

  __device__ __forceinline__ T* row(int i) const { return entries + int64_t(i) * stride; }
  __device__ __forceinline__ bool wide() const { return !kNarrow && stride > Panel<T>::kColumns; }
  // Where loops over panels end.
  __device__ __forceinline__ int end() const { return kNarrow ? 1 : stride; }
};

// Warps of a block that has its matrix in shared memory, or has not.
template <typename T>
constexpr int block_warps(bool resident) {
  return int(sinkhorn_warps(sizeof(T), resident));
}

// Which warp of its block, and which lane of its warp, a thread is. Broadcast, the former is known
// to be the same in all lanes; every lane must ask for it.
__device__ __forceinline__ int warp_index() {
  return __shfl_sync(kEveryLane, int(threadIdx.x / kWarp), 0);
}
__device__ __forceinline__ int lane_index() { return int(threadIdx.x % kWarp); }

// body(i) for 0 <= i < count, always by the same thread. Loops are not unrolled here where that
// only takes registers.
template <int kWarps, typename Body>
__device__ __forceinline__ void each(int count, Body body) {
#pragma unroll 1
  for (int i = threadIdx.x; i < count; i += kWarps * int(kWarp)) body(i);
}

// Calls body(first) for each group of four rows of the calling warp.
template <int kWarps, typename Body>
__device__ __forceinline__ void each_group(int rows, Body body) {
#pragma unroll 1
  for (int first = warp_index() * kGroup; first < rows; first += kWarps * kGroup) body(first);
}

// Combines four values over a warp; lane l gets the result of value[l % 4]. Six shuffles, not 20.
template <typename T, typename Combine = Sum>
__device__ __forceinline__ T reduce_four(const T (&value)[kGroup], Combine combine = {}) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
  const T low =
      combine(odd ? value[1] : value[0], __shfl_xor_sync(kEveryLane, odd ? value[0] : value[1], 1));
  const T top =
      combine(odd ? value[3] : value[2], __shfl_xor_sync(kEveryLane, odd ? value[2] : value[3], 1));
  T total = combine(high ? top : low, __shfl_xor_sync(kEveryLane, high ? low : top, 2));
#pragma unroll
  for (int offset = 4; offset < int(kWarp); offset *= 2)
    total = combine(total, __shfl_xor_sync(kEveryLane, total, offset));
  return total;
}

// The value that lane k of a group of lanes holds for row k, for all four rows.
template <typename T>
__device__ __forceinline__ void spread_four(T value, T (&every)[kGroup]) {
#pragma unroll
  for (int k = 0; k < kGroup; ++k) every[k] = __shfl_sync(kEveryLane, value, k);
}

// Combines values pairwise, in a fixed order.
template <int kCount, typename T, typename Combine>
__device__ __forceinline__ T combine_pairs(const T* value, Combine combine) {
  if constexpr (kCount == 1)
    return *value;
  else
    return combine(combine_pairs<kCount / 2>(value, combine),
                   combine_pairs<kCount / 2>(value + kCount / 2, combine));
}

// Adds a value per thread and joins a flag per thread; every thread gets both. One barrier, after
// which writes made before are seen. `slots`, one per warp in shared memory, may be written again
// only behind a further barrier.
template <int kWarps, typename T>
__device__ __forceinline__ T tally(T value, bool& flag, T* slots) {
  constexpr int kLanes = Pack<T>::kLanes;
  value = warp_reduce(value);
  if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = value;
  flag = __syncthreads_or(flag);
  T every[kWarps];
#pragma unroll
  for (int p = 0; p < kWarps / kLanes; ++p) {
    const Pack<T> pack = reinterpret_cast<const Pack<T>*>(slots)[p];
#pragma unroll
    for (int c = 0; c < kLanes; ++c) every[p * kLanes + c] = pack.lane[c];
  }
  return combine_pairs<kWarps>(every, Sum{});
}

// One panel of a padded vector, as a lane sees it; zero past the end.
template <typename T>
__device__ __forceinline__ void load_strip(const T* vector, int stride, int panel,
                                           Pack<T> (&strip)[Panel<T>::kPacks]) {
#pragma unroll
  for (int p = 0; p < Panel<T>::kPacks; ++p) {
    const int j = panel + (p * int(kWarp) + lane_index()) * Panel<T>::kLanes;
    strip[p] = {};
    if (j < stride) strip[p] = *reinterpret_cast<const Pack<T>*>(vector + j);
  }
}

// Four rows of one panel of a matrix, as a lane sees them. Past the end the last row comes again:
// it must not count.
template <typename T, bool kNarrow>
__device__ __forceinline__ void load_tile(const Matrix<T, kNarrow>& matrix, int first, int panel,
                                          Pack<T> (&tile)[kGroup][Panel<T>::kPacks]) {
#pragma unroll
  for (int k = 0; k < kGroup; ++k) {
    const T* row = matrix.row(first + k < matrix.rows ? first + k : matrix.rows - 1);
    load_strip(row, matrix.stride, panel, tile[k]);
  }
}

// partial[k] += sum over a panel of tile[k] strip.
template <typename T>
__device__ __forceinline__ void add_products(const Pack<T> (&tile)[kGroup][Panel<T>::kPacks],
                                             const Pack<T> (&strip)[Panel<T>::kPacks],
                                             T (&partial)[kGroup]) {
#pragma unroll
  for (int p = 0; p < Panel<T>::kPacks; ++p)
#pragma unroll
    for (int c = 0; c < Panel<T>::kLanes; ++c)
#pragma unroll
      for (int k = 0; k < kGroup; ++k) partial[k] += tile[k][p].lane[c] * strip[p].lane[c];
}

// strip[j] += sum_k weight[k] tile[k][j].
template <typename T>
__device__ __forceinline__ void add_rows(const Pack<T> (&tile)[kGroup][Panel<T>::kPacks],
                                         const T (&weight)[kGroup],
                                         Pack<T> (&strip)[Panel<T>::kPacks]) {
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
#pragma unroll
    for (int p = 0; p < Panel<T>::kPacks; ++p)
#pragma unroll
      for (int c = 0; c < Panel<T>::kLanes; ++c) strip[p].lane[c] += weight[k] * tile[k][p].lane[c];
}

// Columns that a panel starting here has, and the distance of the warps' sums in `scratch`.
__device__ __forceinline__ int panel_width(int columns, int panel, int most) {
  return columns - panel < most ? columns - panel : most;
}

template <typename T>
__device__ __forceinline__ void store_strip(const Pack<T> (&strip)[Panel<T>::kPacks], int width,
                                            T* scratch) {
  scratch += warp_index() * width;
#pragma unroll
  for (int p = 0; p < Panel<T>::kPacks; ++p) {
    const int j = (p * int(kWarp) + lane_index()) * Panel<T>::kLanes;
    if (j < width) *reinterpret_cast<Pack<T>*>(scratch + j) = strip[p];
  }
}

// Combines the warps' strips of a panel; one thread per column calls finish(j, total).
template <int kWarps, typename T, typename Finish, typename Combine = Sum>
__device__ __forceinline__ void join_strips(const T* scratch, int width, int panel, int columns,
                                            Finish finish, Combine combine = {}) {
  __syncthreads();
  const int j = threadIdx.x;  // a panel has no more columns than the block has threads
  if (panel + j >= columns || j >= width) return;
  T every[kWarps];
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) every[warp] = scratch[warp * width + j];
  finish(panel + j, combine_pairs<kWarps>(every, combine));
}

// finish(i, sum_j K_ij y_j), called by one lane per row. `y` is padded with zeros.
template <int kWarps, typename T, bool kNarrow, typename Finish>
__device__ __forceinline__ void multiply(const Matrix<T, kNarrow>& matrix, const T* y,
                                         Finish finish) {
  const int warp = warp_index(), lane = lane_index();
  Pack<T> strip[Panel<T>::kPacks];
  load_strip(y, matrix.stride, 0, strip);
#pragma unroll 1
  for (int first = warp * kGroup; first < matrix.rows; first += kWarps * kGroup) {
    T partial[kGroup] = {};
#pragma unroll 1
    for (int panel = 0; panel < matrix.end(); panel += Panel<T>::kColumns) {
      Pack<T> tile[kGroup][Panel<T>::kPacks];
      load_tile(matrix, first, panel, tile);
      if (matrix.wide()) load_strip(y, matrix.stride, panel, strip);
      add_products(tile, strip, partial);
    }
    const T total = reduce_four(partial);
    if (lane < kGroup && first + lane < matrix.rows) finish(first + lane, total);
  }
}

// finish(j, sum_i weights_i K_ij), called by one thread per column. `scratch`, in shared memory,
// holds a panel per warp and may be written again only behind a further barrier.
template <int kWarps, typename T, bool kNarrow, typename Finish>
__device__ __forceinline__ void multiply_transposed(const Matrix<T, kNarrow>& matrix,
                                                    const T* weights, T* scratch, Finish finish) {
  const int warp = warp_index();
#pragma unroll 1
  for (int panel = 0; panel < matrix.end(); panel += Panel<T>::kColumns) {
    Pack<T> sums[Panel<T>::kPacks] = {};
#pragma unroll 1
    for (int first = warp * kGroup; first < matrix.rows; first += kWarps * kGroup) {
      Pack<T> tile[kGroup][Panel<T>::kPacks];
      T weight[kGroup];
      load_tile(matrix, first, panel, tile);
#pragma unroll
      for (int k = 0; k < kGroup; ++k)
        weight[k] = first + k < matrix.rows ? weights[first + k] : T(0);
      add_rows(tile, weight, sums);
    }
    const int width = panel_width(matrix.stride, panel, Panel<T>::kColumns);
    if (panel > 0) __syncthreads();
    store_strip(sums, width, scratch);
    join_strips<kWarps>(scratch, width, panel, matrix.columns, finish);
  }
}

// weights_i = weigh(i, sum_j K_ij y_j), then finish(j, sum_i weights_i K_ij): one stream over a
// matrix of one panel, two over a wider one. The rules of both functions above hold.
template <int kWarps, typename T, bool kNarrow, typename Weigh, typename Finish>
__device__ __forceinline__ void sweep(const Matrix<T, kNarrow>& matrix, const T* y, T* weights,
                                      T* scratch, Weigh weigh, Finish finish) {
  if (matrix.wide()) {
    multiply<kWarps>(matrix, y, [&](int i, T total) { weights[i] = weigh(i, total); });
    __syncthreads();
    multiply_transposed<kWarps>(matrix, weights, scratch, finish);
    return;
  }
  const int warp = warp_index(), lane = lane_index();
  Pack<T> strip[Panel<T>::kPacks], sums[Panel<T>::kPacks] = {};
  load_strip(y, matrix.stride, 0, strip);
#pragma unroll 1
  for (int first = warp * kGroup; first < matrix.rows; first += kWarps * kGroup) {
    Pack<T> tile[kGroup][Panel<T>::kPacks];
    T partial[kGroup] = {}, weight[kGroup], mine = T(0);
    load_tile(matrix, first, 0, tile);
    add_products(tile, strip, partial);
    const T total = reduce_four(partial);
    if (lane < kGroup && first + lane < matrix.rows) {
      mine = weigh(first + lane, total);
      weights[first + lane] = mine;
    }
    spread_four(mine, weight);
    add_rows(tile, weight, sums);
  }
  store_strip(sums, matrix.stride, scratch);
  join_strips<kWarps>(scratch, matrix.stride, 0, matrix.columns, finish);
}

}  // namespace rlsv_fast::cuda
