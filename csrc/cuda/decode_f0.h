// Launchers of decode_f0: plain pointers, sizes and a stream. Formulas: the .cu file.
#pragma once

#include <cuda_runtime.h>

#include "../decode_f0_rules.h"

namespace rlsv_fast::cuda {

struct F0Shape {
  int64_t batch, voices, bins, frames;
};

struct F0Thresholds {
  double of[kMostVoices];
};

// `moved` and `bin` as in DecodedF0; `moved` is for kSoft alone, else null.
template <typename T>
cudaError_t decode_f0_forward(const T* salience, const F0Shape& shape, F0Method method,
                              const F0Thresholds& thresholds, const F0Grid& grid, T* f0,
                              int32_t* bin, T* slope, T* moved, cudaStream_t stream);

template <typename T>
cudaError_t decode_f0_backward(const T* grad, const int32_t* bin, const T* slope, const T* moved,
                               const F0Shape& shape, F0Method method, T* result,
                               cudaStream_t stream);

}  // namespace rlsv_fast::cuda
