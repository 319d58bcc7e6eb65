// Launchers of the transforms of frame_convolution: plain pointers, sizes and a stream. Formulas:
// the .cu file.
#pragma once

#include <cuda_runtime.h>

#include "../frame_convolution_rules.h"

namespace rlsv_fast::cuda {

// signal (B, T, C), spectrum (rows, B q d, C): rows [first, first + rows) of the coefficients.
template <typename T>
cudaError_t frame_convolution_analysis(const T* signal, const Coefficients& of, int64_t first,
                                       int64_t rows, const Windows& shape, T* spectrum,
                                       cudaStream_t stream);

// addend (B, T, C), or null for none; result (B, T, C).
template <typename T>
cudaError_t frame_convolution_synthesis(const T* spectrum, const T* addend, const Coefficients& of,
                                        int64_t first, int64_t rows, const Windows& shape,
                                        T* result, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
