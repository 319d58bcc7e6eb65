// Launchers of sinkhorn_gradient.cu. Shapes: grad, cost, plan and cost gradient (B, N, M), f and
// row gradient (B, N), g and column gradient (B, M), epsilon and its gradient (B).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rlsv_fast::cuda {

template <typename T>
struct SinkhornGradient {
  const T* grad;  // of the plan; null for the derivative of <P, M>
  const T *cost, *plan, *f, *g, *epsilon;
  int64_t items, rows, columns;
  int64_t stride;  // from cost to cost, 0 if one is shared
  bool symmetric;
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
