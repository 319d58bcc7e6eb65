// Sums along the rows and columns of anything that one block computes entry by entry, in a fixed
// order: for matrices that are not padded, or whose entries are widened (W) as they are read.
#pragma once

#include "sinkhorn.cuh"

namespace rlsv_fast::cuda {

constexpr int kThreads = int(kSinkhornThreads), kWarps = int(kSinkhornWarps);

// body(i) for 0 <= i < count, always by the same thread. Loops are not unrolled here where that
// only takes registers.
template <typename Body>
__device__ __forceinline__ void each(int count, Body body) {
#pragma unroll 1
  for (int i = threadIdx.x; i < count; i += kThreads) body(i);
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
