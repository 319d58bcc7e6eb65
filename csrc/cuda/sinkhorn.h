// Launchers of the Sinkhorn iterations: plain pointers, sizes and a stream. Formulas: the .cu
// files.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

template <typename T>
struct Sinkhorn {
  const T *cost, *epsilon, *row, *column;  // (B, N, M), (B), (B, N), (B, M)
  const T* initial;                        // (B, N), f to start from, or null for a cold start
  int64_t items, rows, columns;
  int64_t stride;  // from cost to cost, 0 if one is shared
  int64_t max_iterations;
  double tolerance;
  bool symmetric;
};

template <typename T>
struct SinkhornResult {
  T *distance, *plan, *f, *g;  // (B), (B, N, M) or null, (B, N), (B, M)
  int64_t* iterations;         // (B)
  T* error;                    // (B)
};

// How many numbers of `bytes` both launchers below want as their workspace, on the current device.
cudaError_t sinkhorn_workspace(int64_t items, int64_t rows, int64_t columns, int64_t bytes,
                               int64_t& numbers);

template <typename T>
cudaError_t sinkhorn_forward(const Sinkhorn<T>& in, const SinkhornResult<T>& out, T* workspace,
                             cudaStream_t stream);

// Exactly in.max_iterations iterations from f = 0; potentials (B, n + 1, N + M) in base 2.
// in.initial must be null; in.tolerance and in.symmetric change nothing.
template <typename T>
cudaError_t sinkhorn_unrolled_forward(const Sinkhorn<T>& in, T* distance, T* potentials, T* error,
                                      T* workspace, cudaStream_t stream);

}  // namespace rlsv_fast::cuda
