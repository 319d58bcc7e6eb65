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
    __syncthreads();
    const int j = int(threadIdx.x);
    if (j < kTile && from + j < columns) {
      W total = partial[j];
#pragma unroll
      for (int other = 1; other < kWarps; ++other) total += partial[other * kTile + j];
      finish(from + j, total);
    }
    __syncthreads();
  }
}

}  // namespace rlsv_fast::cuda
