// Launchers of frames and overlap-add: plain pointers, sizes and a stream. Formulas: the .cu file.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

// signal (batch, length), frames (batch, count, taps).
struct Framing {
  int64_t batch, length, count, taps, hop, offset;
};

template <typename T>
cudaError_t frames(const T* signal, const Framing& shape, T* frames, cudaStream_t stream);

template <typename T>
cudaError_t overlap_add(const T* frames, const Framing& shape, T* signal, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
