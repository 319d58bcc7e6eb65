// Launchers of the frame distance: plain pointers, sizes and a stream. Formulas: the .cu files.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../frame_distance_rules.h"

namespace rlsv_fast::cuda {

// A representation and room for its normalised form; stride = frame_distance_stride(frames).
template <typename T>
struct Frames {
  const T* representation;  // (B, C, T)
  T* values;                // (B, C, stride): a, zero in the padding
  T* divisors;              // (B, T) or (B, C): D or E
  int64_t batch, channels, frames, stride;
  Normalize normalize;
};

// Fills values and divisors.
template <typename T>
cudaError_t normalise_frames(const Frames<T>& in, cudaStream_t stream);

// Turns da into dA, in place (B, C, T).
template <typename T>
cudaError_t denormalise_gradient(const Frames<T>& in, T* gradient, cudaStream_t stream);

// distance: (B, T, T).
template <typename T>
cudaError_t frame_distance_forward(const Frames<T>& in, int64_t p, T* distance,
                                   cudaStream_t stream);

// grad, distance: (B, T, T); weights: room for (B, T, stride); gradient: (B, C, T).
template <typename T>
cudaError_t frame_distance_backward(const Frames<T>& in, int64_t p, const T* grad,
                                    const T* distance, T* weights, T* gradient,
                                    cudaStream_t stream);

}  // namespace rlsv_fast::cuda
