// Launchers of the modulated cosines: plain pointers, sizes and a stream. Formulas: the .cu file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

template <typename T>
struct ModulatedCosines {
  const T *frequency, *phase, *modulator;  // (C), (C), (C or 1, L)
  const int64_t* order;                    // (C)
  int64_t components, taps, modulator_rows, power;
};

template <typename T>
cudaError_t modulated_cosines_forward(const ModulatedCosines<T>& in, T* weights,
                                      cudaStream_t stream);

// `partials` holds modulated_cosines_chunks(components) rows of taps where the modulator is shared.
template <typename T>
cudaError_t modulated_cosines_backward(const ModulatedCosines<T>& in, const T* grad, T* partials,
                                       T* grad_frequency, T* grad_phase, T* grad_modulator,
                                       cudaStream_t stream);

}  // namespace rlsv_fast::cuda
