// What every .cu file needs: the launch, the shared memory asked for at the launch, 16-byte loads.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "grid.h"

// Shared memory of the size that the launch asked for.
extern __shared__ __align__(16) unsigned char rlsv_fast_shared[];

namespace rlsv_fast::cuda {

template <typename T>
__device__ __forceinline__ T* shared_memory() {
  return reinterpret_cast<T*>(rlsv_fast_shared);
}

// The current device, as far as grids depend on it.
inline cudaError_t find_device(Device& device) {
  int index = 0, processors = 0, shared = 0;
  cudaError_t error = cudaGetDevice(&index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
  device = {processors, shared};
  return error;
}

// Launches a kernel; an empty grid is nothing to do. More than kUnasked bytes of shared memory per
// block must be asked for by name.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Grid& grid, cudaStream_t stream,
                   const Arguments&... arguments) {
  if (grid.blocks == 0) return cudaSuccess;
  if (grid.shared > kUnasked) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(grid.shared));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(grid.blocks));
  config.blockDim = dim3(unsigned(grid.threads));
  config.dynamicSmemBytes = size_t(grid.shared);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

// 16 bytes, loaded and stored at once.
template <typename T>
struct alignas(16) Pack {
  static constexpr int kLanes = 16 / sizeof(T);
  T lane[kLanes];
};

// Whether rows of `length` numbers from `pointer` can be accessed in packs.
template <typename T>
bool packable(const T* pointer, int64_t length) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && length % Pack<T>::kLanes == 0;
}

}  // namespace rlsv_fast::cuda
