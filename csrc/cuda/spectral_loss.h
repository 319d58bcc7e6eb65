// Launcher of the distance of magnitude spectra: plain pointers, sizes and a stream. Formulas: the
// .cu file.
#pragma once

#include <cuda_runtime.h>

#include "../spectral_loss_rules.h"
#include "grid.h"

namespace rlsv_fast::cuda {

// Both spectra hold rows.rows x rows.length bins, of a real and an imaginary part each. `partials`
// holds rows.total sums, `value` one number per row. Gradients may be null.
template <typename T>
cudaError_t spectral_loss_forward(const T* estimate, const T* target, const Chunks& rows,
                                  const Weights<T>& weight, double* partials, T* value,
                                  T* by_estimate, T* by_target, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
