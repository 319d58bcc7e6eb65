// Launchers of gated_recurrence: plain pointers, sizes and a stream. Formulas: the .cu file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

struct GateShape {
  int64_t items, frames, size;
};

// What the gradient is made of; all null in a forward pass whose gradient nobody wants.
template <typename T>
struct GateMemory {
  T *gates, *candidates, *parts;
};

template <typename T>
cudaError_t gated_recurrence_forward(const T* projected, const T* weight, const T* bias,
                                     const GateShape& shape, T* states, const GateMemory<T>& kept,
                                     cudaStream_t stream);

// `flow` has room for B H numbers.
template <typename T>
cudaError_t gated_recurrence_backward(const T* grad, const T* weight, const T* states,
                                      const GateMemory<const T>& kept, const GateShape& shape,
                                      T* flow, T* of_projected, T* of_parts, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
