// Implicit derivative of the transport plan P at the fixed point, marginals a and b given.
// With H = dL/dP (H = M for L = <P, M>, whose own dependence on M adds P), r = P 1, c = P' 1,
// 0 <= i < N, 0 <= j < M:
//   [diag(r) P; P' diag(c)] [p; q] = [(P o H) 1; (P o H)' 1]
//   dL/dM_ij = P_ij (p_i + q_j - H_ij) / eps,   dL/da = p,   dL/db = q,
//   dL/deps = -sum_ij (dL/dM_ij) M_ij / eps.
//
// One block per problem: conjugate gradients with P in shared memory (sinkhorn_system.cuh). A
// second kernel solves those on which they fail by elimination; usually it finds none.
//
// Floors of <P, M> for float, N = M = 173, B = 8 (8 of 132 processors) on an H200, a processor's
// share each:
//   once: P, M read at 64 bytes a clock and dL/dM written: 5,600 clocks, 3.2 us;
//   symmetric, per step of about 8: one read of P at 128 bytes a clock, 935 clocks, 0.53 us (30 k
//     multiply-adds at 128: 234 clocks), 7.5 us in all;
//   general, per step of 10 to 300: the same read, and 60 k multiply-adds in double at 64 a clock,
//     935 clocks each, 0.53 us; widening P, 30 k conversions, may cost more than both.
// Bytes of the batch over the memory's bandwidth: 2.9 MB, 0.7 us.
#include "sinkhorn_gradient.h"
#include "sinkhorn_system.cuh"

namespace rlsv_fast::cuda {
namespace {

template <typename T>
__device__ __forceinline__ SinkhornItem<T> item_of(const SinkhornGradient<T>& in, int64_t index) {
  const int64_t size = in.rows * in.columns;
  const T* cost = in.cost + index * in.stride;
  return {in.grad ? in.grad + index * size : cost, cost, in.plan + index * size, in.epsilon[index],
          in.grad == nullptr};
}

// Equal potentials tell that the symmetric path found this plan.
template <typename T>
__device__ __forceinline__ bool found_symmetric(const SinkhornGradient<T>& in, int64_t index) {
  if (!in.symmetric) return false;
  const T *f = in.f + index * in.rows, *g = in.g + index * in.columns;
  bool equal = true;
  each(int(in.rows), [&](int i) { equal = equal && f[i] == g[i]; });
  return __syncthreads_and(equal) != 0;
}

// Numbers that are loaded or stored at once: a Pack, or one.
template <typename T>
struct Single {
  static constexpr int kLanes = 1;
  T lane[1];
};
template <typename Group, typename T>
__device__ __forceinline__ Group load(const T* from) {
  return *reinterpret_cast<const Group*>(from);
}

// dL/dM from p and q into `grad_cost`; returns dL/deps. Group: Pack or Single.
template <typename Group, typename T, typename W, Residence kResidence>
__device__ __forceinline__ double write_cost(const SinkhornSystem<T, W, kResidence>& system,
                                             const SinkhornItem<T>& item, T* grad_cost) {
  const W rate = W(1) / W(item.epsilon), direct = item.distance ? W(1) : W(0);
  const int columns = system.columns;
  const W* q = system.q();
  double by_epsilon = 0;
  for (int i = warp_index(); i < system.rows; i += kWarps) {
    const T* plan = system.row(i);
    const W level = system.p()[i];
    W along = 0;
#pragma unroll 1
    for (int j = lane_index() * Group::kLanes; j < columns; j += int(kWarp) * Group::kLanes) {
      const int64_t at = int64_t(i) * columns + j;
      const Group upstream = load<Group>(item.upstream + at), mass = load<Group>(plan + j);
      const Group cost = item.distance ? upstream : load<Group>(item.cost + at);
      Group result;
#pragma unroll
      for (int k = 0; k < Group::kLanes; ++k) {
        const W value = W(mass.lane[k]);
        const W flow = value * (q[j + k] + level - W(upstream.lane[k])) * rate;
        along += flow * W(cost.lane[k]);
        result.lane[k] = T(flow + value * direct);
      }
      *reinterpret_cast<Group*>(grad_cost + at) = result;
    }
    by_epsilon -= double(along);
  }
  return block_reduce<kThreads>(by_epsilon, system.slots()) / double(item.epsilon);
}

template <typename T, typename W, Residence kResidence>
__device__ __forceinline__ void write(const SinkhornSystem<T, W, kResidence>& system,
                                      const SinkhornGradient<T>& in, const SinkhornItem<T>& item,
                                      int64_t index, bool packed) {
  T* grad_cost = in.grad_cost + index * in.rows * in.columns;
  T *grad_row = in.grad_row + index * in.rows, *grad_column = in.grad_column + index * in.columns;
  each(system.rows, [&](int i) { grad_row[i] = T(system.p()[i]); });
  each(system.columns, [&](int j) { grad_column[j] = T(system.q()[j]); });
  const double by_epsilon = packed ? write_cost<Pack<T>>(system, item, grad_cost)
                                   : write_cost<Single<T>>(system, item, grad_cost);
  if (threadIdx.x == 0) in.grad_epsilon[index] = T(by_epsilon);
}

template <typename T, Residence kResidence>
__global__ void __launch_bounds__(kSinkhornThreads, 1)
    descend(SinkhornGradient<T> in, double* workspace, int64_t numbers, bool* failed, bool packed) {
  workspace += blockIdx.x * numbers;
  for (int64_t index = blockIdx.x; index < in.items; index += gridDim.x) {
    const SinkhornItem<T> item = item_of(in, index);
    bool solved = true;
    if (found_symmetric(in, index)) {
      SinkhornSystem<T, T, kResidence> system(int(in.rows), int(in.columns), workspace);
      system.read(item, !item.distance);
      system.solve_symmetric();
      write(system, in, item, index, packed);
    } else {
      SinkhornSystem<T, double, kResidence> system(int(in.rows), int(in.columns), workspace);
      system.read(item, true);
      solved = system.solve_general(item, nullptr);
      if (solved) write(system, in, item, index, packed);
    }
    if (threadIdx.x == 0) failed[index] = !solved;
    __syncthreads();  // the vectors are used again
  }
}

// Every block looks at all flags, a block's worth at a time, and takes every gridDim-th problem.
template <typename T>
__global__ void __launch_bounds__(kSinkhornThreads, 1)
    eliminate(SinkhornGradient<T> in, double* workspace, int64_t numbers, const bool* failed,
              bool packed) {
  workspace += blockIdx.x * numbers;
  double* graph = workspace + (numbers - in.columns * in.columns);
  int64_t seen = 0;
  for (int64_t from = 0; from < in.items; from += kSinkhornThreads) {
    const int64_t mine = from + threadIdx.x;
    if (!__syncthreads_or(mine < in.items && failed[mine])) continue;
    const int64_t end = from + kSinkhornThreads < in.items ? from + kSinkhornThreads : in.items;
    for (int64_t index = from; index < end; ++index) {
      if (!failed[index] || seen++ % gridDim.x != blockIdx.x) continue;
      const SinkhornItem<T> item = item_of(in, index);
      SinkhornSystem<T, double, Residence::kNothing> system(int(in.rows), int(in.columns),
                                                            workspace);
      system.read(item, true);
      system.solve_general(item, graph);
      write(system, in, item, index, packed);
      __syncthreads();
    }
  }
}

template <typename T>
cudaError_t find_grid(const SinkhornGradient<T>& in, SinkhornGradientGrid& grid) {
  Device device;
  const cudaError_t error = find_device(device);
  if (error == cudaSuccess)
    grid = sinkhorn_gradient_grid(device, in.items, in.rows, in.columns, sizeof(T));
  return error;
}

}  // namespace

template <typename T>
cudaError_t sinkhorn_gradient_workspace(const SinkhornGradient<T>& in, int64_t& count) {
  SinkhornGradientGrid grid{};
  const cudaError_t error = find_grid(in, grid);
  count = grid.workspace();
  return error;
}

template <typename T>
cudaError_t sinkhorn_gradient(const SinkhornGradient<T>& in, double* workspace, bool* failed,
                              cudaStream_t stream) {
  SinkhornGradientGrid grid{};
  cudaError_t error = find_grid(in, grid);
  if (error != cudaSuccess) return error;
  bool packed = true;
  for (const T* matrix : {static_cast<const T*>(in.grad_cost), in.cost, in.plan})
    packed = packed && packable(matrix, in.columns);
  if (in.grad) packed = packed && packable(in.grad, in.columns);
  const auto kernel = grid.residence == Residence::kMatrix    ? descend<T, Residence::kMatrix>
                      : grid.residence == Residence::kVectors ? descend<T, Residence::kVectors>
                                                              : descend<T, Residence::kNothing>;
  error =
      launch(kernel, grid.descent, stream, in, workspace, grid.descent_workspace, failed, packed);
  if (error != cudaSuccess) return error;
  return launch(eliminate<T>, grid.elimination, stream, in, workspace, grid.elimination_workspace,
                static_cast<const bool*>(failed), packed);
}

#define RLSV_INSTANTIATE(T)                                                                  \
  template cudaError_t sinkhorn_gradient_workspace<T>(const SinkhornGradient<T>&, int64_t&); \
  template cudaError_t sinkhorn_gradient<T>(const SinkhornGradient<T>&, double*, bool*,      \
                                            cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
