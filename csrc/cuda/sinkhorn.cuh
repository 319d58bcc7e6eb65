// What the Sinkhorn kernels share: passes of one block over a matrix, every sum in a fixed order.
//
// Warps take groups of four rows, lanes take columns. Four rows in flight share one load of a
// vector and one tree of shuffles, and keep the loads coming. Columns are summed in registers over
// a warp's rows, panel by panel, and the warps' sums are added in order through shared memory.
#pragma once

#include "kernel.cuh"
#include "reduce.cuh"

namespace rlsv_fast::cuda {

constexpr int kGroup = 4, kWarps = int(kSinkhornWarps);

// A matrix whose rows are padded with zeros to whole packs, 16-byte aligned.
template <typename T>
struct Matrix {
  T* entries;
  int64_t rows, columns, stride;
};

// A panel: the columns that a warp holds at once, kStrip per lane. As in grid.h.
template <typename T>
struct Panel {
  static constexpr int kLanes = Pack<T>::kLanes;
  static constexpr int kColumns = int(sinkhorn_panel(sizeof(T)));
  static constexpr int kStrip = kColumns / int(kWarp), kPacks = kStrip / kLanes;
};

// Which warp of its block, and which lane of its warp, a thread is. Broadcast, the former is known
// to be the same in all lanes; every lane must ask for it.
__device__ __forceinline__ int warp_index() {
  return __shfl_sync(kEveryLane, int(threadIdx.x / kWarp), 0);
}
__device__ __forceinline__ int lane_index() { return int(threadIdx.x % kWarp); }

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

// Adds a value per thread and joins a flag per thread; every thread gets both. One barrier, after
// which writes made before are seen. `slots`, one per warp in shared memory, may be written again
// only behind a further barrier.
template <typename T>
__device__ __forceinline__ T tally(T value, bool& flag, T* slots) {
  value = warp_reduce(value);
  if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = value;
  flag = __syncthreads_or(flag);
  value = slots[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) value += slots[warp];
  return value;
}

// Four rows of one panel of a matrix, as a lane sees them; rows past the end are zero.
template <typename T>
__device__ __forceinline__ void load_tile(const Matrix<T>& matrix, int64_t first, int64_t panel,
                                          Pack<T> (&tile)[kGroup][Panel<T>::kPacks]) {
  const int lane = lane_index();
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
#pragma unroll
    for (int p = 0; p < Panel<T>::kPacks; ++p) {
      const int64_t j = panel + (p * int(kWarp) + lane) * Panel<T>::kLanes;
      tile[k][p] = {};
      if (first + k < matrix.rows && j < matrix.stride)
        tile[k][p] =
            *reinterpret_cast<const Pack<T>*>(matrix.entries + (first + k) * matrix.stride + j);
    }
}

// One panel of a padded vector.
template <typename T>
__device__ __forceinline__ void load_strip(const T* vector, int64_t stride, int64_t panel,
                                           T (&strip)[Panel<T>::kStrip]) {
#pragma unroll
  for (int p = 0; p < Panel<T>::kPacks; ++p)
#pragma unroll
    for (int c = 0; c < Panel<T>::kLanes; ++c) {
      const int64_t j = panel + (p * int(kWarp) + lane_index()) * Panel<T>::kLanes + c;
      strip[p * Panel<T>::kLanes + c] = j < stride ? vector[j] : T(0);
    }
}

// partial[k] += sum over a panel of tile[k] strip.
template <typename T>
__device__ __forceinline__ void add_products(const Pack<T> (&tile)[kGroup][Panel<T>::kPacks],
                                             const T (&strip)[Panel<T>::kStrip],
                                             T (&partial)[kGroup]) {
#pragma unroll
  for (int p = 0; p < Panel<T>::kPacks; ++p)
#pragma unroll
    for (int c = 0; c < Panel<T>::kLanes; ++c)
#pragma unroll
      for (int k = 0; k < kGroup; ++k)
        partial[k] += tile[k][p].lane[c] * strip[p * Panel<T>::kLanes + c];
}

// strip[j] += sum_k weight[k] tile[k][j].
template <typename T>
__device__ __forceinline__ void add_rows(const Pack<T> (&tile)[kGroup][Panel<T>::kPacks],
                                         const T (&weight)[kGroup], T (&strip)[Panel<T>::kStrip]) {
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
#pragma unroll
    for (int p = 0; p < Panel<T>::kPacks; ++p)
#pragma unroll
      for (int c = 0; c < Panel<T>::kLanes; ++c)
        strip[p * Panel<T>::kLanes + c] += weight[k] * tile[k][p].lane[c];
}

// Columns that a panel starting here has, and the distance of the warps' sums in `scratch`.
template <typename T>
__device__ __forceinline__ int64_t panel_width(int64_t stride, int64_t panel) {
  return stride - panel < Panel<T>::kColumns ? stride - panel : Panel<T>::kColumns;
}

template <typename T>
__device__ __forceinline__ void store_strip(const T (&strip)[Panel<T>::kStrip], int64_t width,
                                            T* scratch) {
  scratch += warp_index() * width;
#pragma unroll
  for (int p = 0; p < Panel<T>::kPacks; ++p)
#pragma unroll
    for (int c = 0; c < Panel<T>::kLanes; ++c) {
      const int j = (p * int(kWarp) + lane_index()) * Panel<T>::kLanes + c;
      if (j < width) scratch[j] = strip[p * Panel<T>::kLanes + c];
    }
}

// Combines the warps' strips of a panel; one thread per column calls finish(j, total).
template <typename T, typename Finish, typename Combine = Sum>
__device__ __forceinline__ void join_strips(const T* scratch, int64_t width, int64_t panel,
                                            int64_t columns, Finish finish, Combine combine = {}) {
  __syncthreads();
  const int64_t j = threadIdx.x;  // a panel has no more columns than the block has threads
  if (panel + j >= columns || j >= width) return;
  T total = scratch[j];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) total = combine(total, scratch[warp * width + j]);
  finish(panel + j, total);
}

// finish(i, sum_j K_ij y_j), called by one lane per row. `y` is padded with zeros.
template <typename T, typename Finish>
__device__ __forceinline__ void multiply(const Matrix<T>& matrix, const T* y, Finish finish) {
  const int warp = warp_index(), lane = lane_index();
  for (int64_t first = warp * kGroup; first < matrix.rows; first += kWarps * kGroup) {
    T partial[kGroup] = {};
    for (int64_t panel = 0; panel < matrix.stride; panel += Panel<T>::kColumns) {
      Pack<T> tile[kGroup][Panel<T>::kPacks];
      T strip[Panel<T>::kStrip];
      load_tile(matrix, first, panel, tile);
      load_strip<T>(y, matrix.stride, panel, strip);
      add_products<T>(tile, strip, partial);
    }
    const T total = reduce_four(partial);
    if (lane < kGroup && first + lane < matrix.rows) finish(first + lane, total);
  }
}

// finish(j, sum_i weights_i K_ij), called by one thread per column. `scratch`, in shared memory,
// holds a panel per warp and may be written again only behind a further barrier.
template <typename T, typename Finish>
__device__ __forceinline__ void multiply_transposed(const Matrix<T>& matrix, const T* weights,
                                                    T* scratch, Finish finish) {
  const int warp = warp_index(), lane = lane_index();
  for (int64_t panel = 0; panel < matrix.stride; panel += Panel<T>::kColumns) {
    T sums[Panel<T>::kStrip] = {};
    for (int64_t first = warp * kGroup; first < matrix.rows; first += kWarps * kGroup) {
      Pack<T> tile[kGroup][Panel<T>::kPacks];
      T weight[kGroup];
      load_tile(matrix, first, panel, tile);
#pragma unroll
      for (int k = 0; k < kGroup; ++k)
        weight[k] = first + k < matrix.rows ? weights[first + k] : T(0);
      add_rows<T>(tile, weight, sums);
    }
    const int64_t width = panel_width<T>(matrix.stride, panel);
    if (panel > 0) __syncthreads();
    store_strip<T>(sums, width, scratch);
    join_strips(scratch, width, panel, matrix.columns, finish);
  }
}

// weights_i = weigh(i, sum_j K_ij y_j), then finish(j, sum_i weights_i K_ij): one stream over a
// matrix of one panel, two over a wider one. The rules of both functions above hold.
template <typename T, typename Weigh, typename Finish>
__device__ __forceinline__ void sweep(const Matrix<T>& matrix, const T* y, T* weights, T* scratch,
                                      Weigh weigh, Finish finish) {
  if (matrix.stride > Panel<T>::kColumns) {
    multiply(matrix, y, [&](int64_t i, T total) { weights[i] = weigh(i, total); });
    __syncthreads();
    multiply_transposed(matrix, weights, scratch, finish);
    return;
  }
  const int warp = warp_index(), lane = lane_index();
  T strip[Panel<T>::kStrip], sums[Panel<T>::kStrip] = {};
  load_strip<T>(y, matrix.stride, 0, strip);
  for (int64_t first = warp * kGroup; first < matrix.rows; first += kWarps * kGroup) {
    Pack<T> tile[kGroup][Panel<T>::kPacks];
    T partial[kGroup] = {}, weight[kGroup], mine = T(0);
    load_tile(matrix, first, 0, tile);
    add_products<T>(tile, strip, partial);
    const T total = reduce_four(partial);
    if (lane < kGroup && first + lane < matrix.rows) {
      mine = weigh(first + lane, total);
      weights[first + lane] = mine;
    }
    spread_four(mine, weight);
    add_rows<T>(tile, weight, sums);
  }
  store_strip<T>(sums, matrix.stride, scratch);
  join_strips(scratch, matrix.stride, 0, matrix.columns, finish);
}

// Four rows of an unpadded matrix (N, M): combines value(k, j, entry) along row first + k; lane l
// gets the result of row first + l % 4. Entry (k, j) is always seen by lane j % 32.
template <typename T, typename Value, typename Combine = Sum>
__device__ __forceinline__ T reduce_rows(const T* entries, int64_t first, int64_t rows,
                                         int64_t columns, T initial, Value value,
                                         Combine combine = {}) {
  T partial[kGroup] = {initial, initial, initial, initial};
  const int lane = lane_index();
  for (int64_t panel = 0; panel < columns; panel += Panel<T>::kColumns) {
    T entry[kGroup][Panel<T>::kStrip];
#pragma unroll
    for (int k = 0; k < kGroup; ++k)
#pragma unroll
      for (int c = 0; c < Panel<T>::kStrip; ++c) {
        const int64_t j = panel + c * int(kWarp) + lane;
        if (first + k < rows && j < columns) entry[k][c] = entries[(first + k) * columns + j];
      }
#pragma unroll
    for (int k = 0; k < kGroup; ++k)
#pragma unroll
      for (int c = 0; c < Panel<T>::kStrip; ++c) {
        const int64_t j = panel + c * int(kWarp) + lane;
        if (first + k < rows && j < columns)
          partial[k] = combine(partial[k], value(k, j, entry[k][c]));
      }
  }
  return reduce_four(partial, combine);
}

// The same along columns: finish(j, the values value(i, j, entry) combined over i). `scratch` as
// in multiply_transposed.
template <typename T, typename Value, typename Finish, typename Combine = Sum>
__device__ __forceinline__ void reduce_columns(const T* entries, int64_t rows, int64_t columns,
                                               T* scratch, T initial, Value value, Finish finish,
                                               Combine combine = {}) {
  const int warp = warp_index(), lane = lane_index();
  for (int64_t panel = 0; panel < columns; panel += Panel<T>::kColumns) {
    T partial[Panel<T>::kStrip];
#pragma unroll
    for (int c = 0; c < Panel<T>::kStrip; ++c) partial[c] = initial;
#pragma unroll 1
    for (int64_t i = warp; i < rows; i += kWarps) {
      T entry[Panel<T>::kStrip];
#pragma unroll
      for (int c = 0; c < Panel<T>::kStrip; ++c) {
        const int64_t j = panel + c * int(kWarp) + lane;
        if (j < columns) entry[c] = entries[i * columns + j];
      }
#pragma unroll
      for (int c = 0; c < Panel<T>::kStrip; ++c) {
        const int64_t j = panel + c * int(kWarp) + lane;
        if (j < columns) partial[c] = combine(partial[c], value(i, j, entry[c]));
      }
    }
    const int64_t width = panel_width<T>(columns, panel);
    if (panel > 0) __syncthreads();
#pragma unroll
    for (int c = 0; c < Panel<T>::kStrip; ++c)
      if (c * int(kWarp) + lane < width) scratch[warp * width + c * int(kWarp) + lane] = partial[c];
    join_strips(scratch, width, panel, columns, finish, combine);
  }
}

}  // namespace rlsv_fast::cuda
