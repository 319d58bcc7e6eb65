// Launchers of the total variation: plain pointers, sizes and a stream. Formulas: the .cu file.
#pragma once

#include <cuda_runtime.h>

#include "grid.h"

namespace rlsv_fast::cuda {

// `partials` holds shape.partials x 2 sums. `norms` holds two numbers where squared (norm 2).
template <typename T>
cudaError_t total_variation_forward(const T* representation, const VariationShape& shape,
                                    bool squared, double* partials, double* norms, T* value,
                                    cudaStream_t stream);

template <typename T>
cudaError_t total_variation_backward(const T* grad, const T* representation, const double* norms,
                                     const VariationShape& shape, bool squared, T* result,
                                     cudaStream_t stream);

}  // namespace rlsv_fast::cuda
