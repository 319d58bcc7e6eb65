// Launchers of all_pole: plain pointers, sizes and a stream. Formulas: the .cu file.
#pragma once

#include <cuda_runtime.h>

#include "../all_pole_rules.h"

namespace rlsv_fast::cuda {

// `filtered` receives y, shape (batch, frames, frame).
template <typename T>
cudaError_t all_pole_forward(const T* signal, const T* coefficients, const PoleShape& shape,
                             T* filtered, T* result, cudaStream_t stream);

// `flow` is room for u, as large as `filtered`.
template <typename T>
cudaError_t all_pole_backward(const T* grad, const T* coefficients, const T* filtered,
                              const PoleShape& shape, T* flow, T* grad_signal, T* grad_coefficients,
                              cudaStream_t stream);

}  // namespace rlsv_fast::cuda
