// Launchers of sinkhorn_reverse.cu. Shapes: cost (B, N, M), row (B, N), column (B, M), grad and
// epsilon (B), potentials (B, n + 1, N + M) in base 2, row 0 the start.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

template <typename T>
struct SinkhornReverse {
  const T *grad, *cost, *epsilon, *row, *column, *potentials;
  int64_t items, rows, columns, iterations;
  T *grad_cost, *grad_epsilon, *grad_row, *grad_column;
};

// How many numbers of workspace the way back needs on the current device.
template <typename T>
cudaError_t sinkhorn_reverse_workspace(const SinkhornReverse<T>& in, int64_t& count);

template <typename T>
cudaError_t sinkhorn_reverse(const SinkhornReverse<T>& in, T* workspace, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
