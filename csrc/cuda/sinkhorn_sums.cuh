// Passes of one block over a matrix as it was given, (N, M) without padding, in any memory; every
// sum in a fixed order. First those that combine values of one type, in groups of four rows as in
// sinkhorn.cuh; then those of the implicit gradient, whose sums may be wider (W) than the entries.
#pragma once

#include "sinkhorn.cuh"

namespace rlsv_fast::cuda {

// Calls value(k, c, j, entry) for four rows of an unpadded matrix (N, M) and the columns j = start
// + 32 c + lane, 0 <= c < kLanes, after loading all of them.
template <typename T, typename Value>
__device__ __forceinline__ void visit(const T* entries, int first, int rows, int start, int columns,
                                      Value value) {
  constexpr int kColumns = Panel<T>::kLanes;
  T entry[kGroup][kColumns];
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int j = start + c * int(kWarp) + lane_index();
      if (first + k < rows && j < columns) entry[k][c] = entries[int64_t(first + k) * columns + j];
    }
#pragma unroll
  for (int k = 0; k < kGroup; ++k)
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int j = start + c * int(kWarp) + lane_index();
      if (first + k < rows && j < columns) value(k, c, j, entry[k][c]);
    }
}

// Four rows of an unpadded matrix: combines value(k, j, entry) along row first + k; lane l gets the
// result of row first + l % 4. Entry (k, j) is always seen by lane j % 32.
template <typename T, typename Value, typename Combine = Sum>
__device__ __forceinline__ T reduce_rows(const T* entries, int first, int rows, int columns,
                                         T initial, Value value, Combine combine = {}) {
  T partial[kGroup] = {initial, initial, initial, initial};
#pragma unroll 1
  for (int start = 0; start < columns; start += Panel<T>::kLanes * int(kWarp))
    visit(entries, first, rows, start, columns, [&](int k, int, int j, T entry) {
      partial[k] = combine(partial[k], value(k, j, entry));
    });
  return reduce_four(partial, combine);
}

// The same along columns: finish(j, the values value(i, j, entry) combined over i). `scratch` as
// in multiply_transposed.
template <int kWarps, typename T, typename Value, typename Finish, typename Combine = Sum>
__device__ __forceinline__ void reduce_columns(const T* entries, int rows, int columns, T* scratch,
                                               T initial, Value value, Finish finish,
                                               Combine combine = {}) {
  constexpr int kColumns = Panel<T>::kLanes;
  const int warp = warp_index(), lane = lane_index();
#pragma unroll 1
  for (int start = 0; start < columns; start += kColumns * int(kWarp)) {
    T partial[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) partial[c] = initial;
#pragma unroll 1
    for (int first = warp * kGroup; first < rows; first += kWarps * kGroup)
      visit(entries, first, rows, start, columns, [&](int k, int c, int j, T entry) {
        partial[c] = combine(partial[c], value(first + k, j, entry));
      });
    const int width = panel_width(columns, start, kColumns * int(kWarp));
    if (start > 0) __syncthreads();
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (c * int(kWarp) + lane < width) scratch[warp * width + c * int(kWarp) + lane] = partial[c];
    join_strips<kWarps>(scratch, width, start, columns, finish, combine);
  }
}

// From here on, the block of the implicit gradient.
constexpr int kThreads = int(kSinkhornThreads), kWarps = int(kSinkhornWarps);

template <typename Body>
__device__ __forceinline__ void each(int count, Body body) {
  each<kWarps>(count, body);
}

// add(i, j, sums) adds entry (i, j) to kSums totals; finish(i, sums) is called by one lane per row.
// Rows past the end repeat the last one. Ends with a barrier.
template <typename W, int kSums, typename Add, typename Finish>
__device__ __forceinline__ void sum_rows(int rows, int columns, Add add, Finish finish) {
  const int warp = warp_index(), lane = lane_index();
  for (int first = warp * kGroup; first < rows; first += kWarps * kGroup) {
    W totals[kGroup][kSums] = {};
#pragma unroll 2
    for (int j = lane; j < columns; j += kWarp)
#pragma unroll
      for (int k = 0; k < kGroup; ++k) add(first + k < rows ? first + k : rows - 1, j, totals[k]);
    W sums[kSums];
#pragma unroll
    for (int sum = 0; sum < kSums; ++sum) {
      const W four[kGroup] = {totals[0][sum], totals[1][sum], totals[2][sum], totals[3][sum]};
      sums[sum] = reduce_four(four);
    }
    if (lane < kGroup && first + lane < rows) finish(first + lane, sums);
  }
  __syncthreads();
}

// Adds what the warps left in `partial`, (warps, tile), for the columns from `from`.
template <typename W, typename Finish>
__device__ __forceinline__ void join_sums(const W* partial, int from, int columns, Finish finish) {
  constexpr int kTile = int(kSinkhornTile);
  __syncthreads();
  const int j = int(threadIdx.x);
  if (j < kTile && from + j < columns) {
    W total = partial[j];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) total += partial[warp * kTile + j];
    finish(from + j, total);
  }
  __syncthreads();
}

// finish(j, sum_i entry(i, j)), called by one thread per column. `partial`, in shared memory, holds
// kSinkhornTile numbers per warp. Ends with a barrier.
template <typename W, typename Entry, typename Finish>
__device__ __forceinline__ void sum_columns(int rows, int columns, W* partial, Entry entry,
                                            Finish finish) {
  constexpr int kTile = int(kSinkhornTile), kStrip = kTile / int(kWarp);
  const int warp = warp_index(), lane = lane_index();
  for (int from = 0; from < columns; from += kTile) {
    W totals[kStrip] = {};
#pragma unroll 2
    for (int i = warp; i < rows; i += kWarps)
#pragma unroll
      for (int k = 0; k < kStrip; ++k) {
        const int j = from + k * int(kWarp) + lane;
        totals[k] += entry(i, j < columns ? j : columns - 1);
      }
#pragma unroll
    for (int k = 0; k < kStrip; ++k) partial[warp * kTile + k * int(kWarp) + lane] = totals[k];
    join_sums(partial, from, columns, finish);
  }
}

// weights_i = weigh(i, sum_j entry(i, j) y_j), called by one lane per row, then
// finish(j, sum_i weights_i entry(i, j)), called by one thread per column: each entry is computed
// once where a warp can hold its rows, else twice. `partial` as above. Ends with a barrier.
template <typename W, typename Entry, typename Weigh, typename Finish>
__device__ __forceinline__ void sweep_rows(int rows, int columns, const W* y, W* weights,
                                           W* partial, Entry entry, Weigh weigh, Finish finish) {
  constexpr int kTile = int(kSinkhornTile), kPart = kTile / int(kWarp), kStrip = 2 * kPart;
  constexpr int kRows = 2;  // at once
  if (columns > 2 * kTile) {
    sum_rows<W, 1>(
        rows, columns, [&](int i, int j, W(&sums)[1]) { sums[0] += entry(i, j) * y[j]; },
        [&](int i, const W(&sums)[1]) { weights[i] = weigh(i, sums[0]); });
    sum_columns<W>(
        rows, columns, partial, [&](int i, int j) { return entry(i, j) * weights[i]; }, finish);
    return;
  }
  const int warp = warp_index(), lane = lane_index();
  W sums[kStrip] = {};
#pragma unroll 1
  for (int first = warp * kRows; first < rows; first += kWarps * kRows) {
    W values[kRows][kStrip] = {}, totals[kRows] = {};
#pragma unroll
    for (int c = 0; c < kStrip; ++c) {
      const int j = c * int(kWarp) + lane;
      if (j >= columns) break;
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        values[k][c] = entry(first + k < rows ? first + k : rows - 1, j);
        totals[k] += values[k][c] * y[j];
      }
    }
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const W total = warp_reduce(totals[k]);
      W weight = W(0);
      if (lane == 0 && first + k < rows) weights[first + k] = weight = weigh(first + k, total);
      weight = __shfl_sync(kEveryLane, weight, 0);
#pragma unroll
      for (int c = 0; c < kStrip; ++c) sums[c] += values[k][c] * weight;
    }
  }
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    if (tile * kTile >= columns) break;
#pragma unroll
    for (int c = 0; c < kPart; ++c)
      partial[warp * kTile + c * int(kWarp) + lane] = sums[tile * kPart + c];
    join_sums(partial, tile * kTile, columns, finish);
  }
}

}  // namespace rlsv_fast::cuda
