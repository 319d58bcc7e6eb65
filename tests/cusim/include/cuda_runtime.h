// The part of CUDA's runtime and of its C++ dialect that csrc/cuda uses, for g++ on a CPU.
// This folder stands first on the include path, so that kernels compile unchanged. A block runs on
// one OS thread, hence shared memory is thread_local; each of its threads is a fiber.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>

#include "cusim.h"

#define __global__
#define __device__
#define __host__
#define __shared__ constinit thread_local
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline __attribute__((always_inline))

// Indices: written by the scheduler whenever it switches to another thread.

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// __thread, not thread_local: no wrapper function around each access.
extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// Block barriers.

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  cusim::block_barrier(false, where);
}
inline int __syncthreads_or(int predicate,
                            std::source_location where = std::source_location::current()) {
  return cusim::block_barrier(predicate != 0, where).any;
}
inline int __syncthreads_and(int predicate,
                             std::source_location where = std::source_location::current()) {
  return cusim::block_barrier(predicate != 0, where).all;
}
inline int __syncthreads_count(int predicate,
                               std::source_location where = std::source_location::current()) {
  return cusim::block_barrier(predicate != 0, where).count;
}

// Warp operations.

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       std::source_location where = std::source_location::current()) {
  cusim::warp_meeting(mask, 0, cusim::WarpOp::kSync, where);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize,
              std::source_location where = std::source_location::current()) {
  return cusim::shuffle(mask, value, lane, width, cusim::WarpOp::kShuffle, where);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize,
                  std::source_location where = std::source_location::current()) {
  return cusim::shuffle(mask, value, lanes, width, cusim::WarpOp::kShuffleXor, where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int distance, int width = warpSize,
                 std::source_location where = std::source_location::current()) {
  return cusim::shuffle(mask, value, distance, width, cusim::WarpOp::kShuffleUp, where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int distance, int width = warpSize,
                   std::source_location where = std::source_location::current()) {
  return cusim::shuffle(mask, value, distance, width, cusim::WarpOp::kShuffleDown, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return cusim::ballot(mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return cusim::ballot(mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return cusim::ballot(mask, predicate == 0, where) == 0;
}

// Arithmetic that the C++ library lacks.

using std::max;
using std::min;

inline float __saturatef(float x) { return x > 0.0f ? std::min(x, 1.0f) : 0.0f; }  // 0 for NaN
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <typename T>
T __ldg(const T* pointer) {
  return *pointer;
}

// The runtime.

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
typedef struct CUstream_st* cudaStream_t;
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid argument (emulated)";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }  // whatever is wrong aborts
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value =
      int(attribute == cudaDevAttrMultiProcessorCount ? cusim::processors() : cusim::most_shared());
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t = nullptr) {
  if (bytes != 0) memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t = nullptr) {
  if (bytes != 0) memcpy(to, from, bytes);
  return cudaSuccess;
}
template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int bytes) {
  const bool fits = cusim::allow_shared(reinterpret_cast<const void*>(kernel), bytes);
  return fits ? cudaSuccess : cudaErrorInvalidValue;
}
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const dim3 &grid = config->gridDim, &block = config->blockDim;
  cusim::check_launch({grid.x, grid.y, grid.z, block.x, block.y, block.z}, config->dynamicSmemBytes,
                      reinterpret_cast<const void*>(kernel), __PRETTY_FUNCTION__);
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  cusim::run_grid(cusim::most_blocks(grid.x), block.x, config->dynamicSmemBytes,
                  [&] { std::apply(kernel, values); });
  return cudaSuccess;
}
