// Launchers of the scale-invariant ratio: plain pointers, sizes and a stream. Formulas: the .cu
// file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../si_sdr_rules.h"
#include "grid.h"

namespace rlsv_fast::cuda {

// Both signals hold items.rows x items.length samples. `partials` holds items.total x 3 sums,
// `moments` and `value` one of each per item.
template <typename T>
cudaError_t si_sdr_forward(const T* estimate, const T* target, const Chunks& items,
                           double* partials, Moments* moments, T* value, cudaStream_t stream);

// grad_target may be null.
template <typename T>
cudaError_t si_sdr_backward(const T* grad, const T* estimate, const T* target,
                            const Moments* moments, int64_t items, int64_t length, T* grad_estimate,
                            T* grad_target, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
