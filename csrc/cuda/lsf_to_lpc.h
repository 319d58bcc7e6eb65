// Launchers of lsf_to_lpc: plain pointers, sizes and a stream. Formulas: the .cu file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

template <typename T>
cudaError_t lsf_to_lpc_forward(const T* lsf, int64_t rows, int64_t order, T* result,
                               cudaStream_t stream);

template <typename T>
cudaError_t lsf_to_lpc_backward(const T* grad, const T* lsf, int64_t rows, int64_t order, T* result,
                                cudaStream_t stream);

}  // namespace rlsv_fast::cuda
