// <P, M> after exactly n alternating iterations (sinkhorn_general.cuh), one problem per block. The
// potentials alpha^k, beta^k in base 2 of every iteration are kept for the way back:
// potentials[b, k] = [alpha^k, beta^k], 0 <= k <= n, N + M numbers each; row 0 is the start, 0.
//
// Floors: those of an ordinary iteration in sinkhorn.cu, and n (N + M) numbers written.
#include "sinkhorn_general.cuh"

namespace rlsv_fast::cuda {
namespace {

template <typename T, int kWarps, bool kResident>
__global__ void __launch_bounds__(kWarps* int(kWarp), 1)
    iterate(Sinkhorn<T> in, T* distance, T* potentials, T* error, T* workspace, int64_t numbers) {
  auto space = make_space<T, kWarps, kResident>(int(in.rows), int(in.columns),
                                                workspace + blockIdx.x * numbers);
  const int64_t stride = in.rows + in.columns;
  for (int64_t item = blockIdx.x; item < in.items; item += gridDim.x) {
    const Problem<T> problem = read_problem<kWarps>(in, item, space.slots);
    General<T, kWarps, kResident> path(problem, space);
    T* history = potentials + item * (in.max_iterations + 1) * stride;
    T value;
    fill<kWarps>(history, stride, T(0));
    if (!path.start(history) || !(problem.epsilon > T(0)) || !(problem.mass > T(0))) {
      // No mass has the plan 0: potentials -inf. Anything else has none: NaN.
      const bool empty = problem.mass == T(0);
      fill<kWarps>(history, (in.max_iterations + 1) * stride, empty ? -T(INFINITY) : T(NAN));
      value = path.error = empty ? T(0) : T(NAN);
    } else {
      if (in.max_iterations == 0) path.stand(history);
#pragma unroll 1
      for (int64_t step = 1; step <= in.max_iterations; ++step) {
        T* record = history + step * stride;
        if (step == 1 || !path.iterate()) path.absorb(record - stride, record + in.rows);
        path.write_potentials(T(1), record, record + in.rows);
      }
      value = write_plan(problem, space, space.x, space.y, static_cast<T*>(nullptr));
      path.error = path.error / problem.mass;
    }
    if (threadIdx.x == 0) {
      distance[item] = value;
      error[item] = path.error;
    }
  }
}

}  // namespace

template <typename T>
cudaError_t sinkhorn_unrolled_forward(const Sinkhorn<T>& in, T* distance, T* potentials, T* error,
                                      T* workspace, cudaStream_t stream) {
  Device device;
  const cudaError_t failure = find_device(device);
  if (failure != cudaSuccess) return failure;
  const SinkhornGrid grid = space_grid(device, in.items, in.rows, in.columns, sizeof(T));
  return launch(grid.resident ? iterate<T, block_warps<T>(true), true>
                              : iterate<T, block_warps<T>(false), false>,
                grid.grid, stream, in, distance, potentials, error, workspace, grid.workspace);
}

#define RLSV_INSTANTIATE(T)                                                             \
  template cudaError_t sinkhorn_unrolled_forward<T>(const Sinkhorn<T>&, T*, T*, T*, T*, \
                                                    cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
