// Reductions in a fixed order: same input, same bits, run after run. No atomics.
#pragma once

#include <cuda_runtime.h>

namespace rlsv_fast::cuda {

constexpr unsigned kWarp = 32, kEveryLane = 0xffffffffu;

struct Sum {
  template <typename T>
  __device__ __forceinline__ T operator()(T first, T second) const {
    return first + second;
  }
};

// The greater of two numbers; NaN where either is one, unlike fmax.
struct Maximum {
  template <typename T>
  __device__ __forceinline__ T operator()(T first, T second) const {
    return first > second || first != first ? first : second;
  }
};

// Combines a value per lane; every lane of a full warp must call it and gets the result.
template <typename T, typename Combine = Sum>
__device__ __forceinline__ T warp_reduce(T value, Combine combine = {}) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value = combine(value, __shfl_xor_sync(kEveryLane, value, offset));
  return value;
}

// Combines a value per thread of a block of kThreads (a multiple of 32, at most 1024). Every
// thread must call it and gets the result; `scratch`, in shared memory, holds one value per warp.
template <int kThreads, typename T, typename Combine = Sum>
__device__ __forceinline__ T block_reduce(T value, T* scratch, Combine combine = {}) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024, "whole warps, one block");
  value = warp_reduce(value, combine);
  __syncthreads();  // scratch may still be read from an earlier reduction
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = scratch[0];
#pragma unroll
  for (int warp = 1; warp < int(kThreads / kWarp); ++warp) value = combine(value, scratch[warp]);
  return value;
}

}  // namespace rlsv_fast::cuda
