// Launchers of the negative signal-to-noise ratio: plain pointers, sizes and a stream. Formulas:
// the .cu file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "grid.h"

namespace rlsv_fast::cuda {

// Both signals hold rows.rows x rows.length samples. `partials` holds rows.total() x 2 sums,
// `energies` one pair and `value` one number per row.
template <typename T>
cudaError_t neg_snr_forward(const T* estimate, const T* target, const Chunks& rows,
                            double* partials, double* energies, T* value, cudaStream_t stream);

// grad_target may be null.
template <typename T>
cudaError_t neg_snr_backward(const T* grad, const T* estimate, const T* target,
                             const double* energies, int64_t rows, int64_t length, T* grad_estimate,
                             T* grad_target, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
