// Sums in a fixed order: same input, same bits, run after run.
#pragma once

#include <cuda_runtime.h>

namespace rlsv_fast {

// The sum over a block of kThreads (a multiple of 32) threads, valid in thread 0. Every thread
// must call it; `scratch` holds one value per warp.
template <int kThreads, typename T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  constexpr int kWarps = kThreads / 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_down_sync(0xffffffffu, value, offset);
  __syncthreads();  // scratch may still be read from an earlier sum
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  T total = T(0);
  if (threadIdx.x == 0) {
#pragma unroll
    for (int index = 0; index < kWarps; ++index) total += scratch[index];
  }
  return total;
}

}  // namespace rlsv_fast
