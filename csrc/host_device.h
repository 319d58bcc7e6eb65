// Marks small functions that CPU and CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define RLSV_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define RLSV_HOST_DEVICE __attribute__((always_inline)) inline
#endif
