// Launchers of sinkhorn_gradient.cu. Shapes: cost and plan (B, N, M), f and row gradient (B, N), g
// and column gradient (B, M), epsilon and its gradient (B). `grad` is (B, N, M), or (B) for the
// distance.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

template <typename T>
struct SinkhornGradient {
  const T *grad, *cost, *plan, *f, *g, *epsilon;
  int64_t items, rows, columns;
  bool symmetric, distance;
  T *grad_cost, *grad_epsilon, *grad_row, *grad_column;
};

// How many doubles of workspace the gradient needs on the current device; `failed` of the launch
// is one flag per item.
template <typename T>
cudaError_t sinkhorn_gradient_workspace(const SinkhornGradient<T>& in, int64_t& count);

template <typename T>
cudaError_t sinkhorn_gradient(const SinkhornGradient<T>& in, double* workspace, bool* failed,
                              cudaStream_t stream);

}  // namespace rlsv_fast::cuda
