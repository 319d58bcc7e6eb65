// The columns' part of the linear system in sinkhorn_system.cuh by elimination, for plans P that
// nearly fall apart. The Schur complement diag(c) - P' diag(1/r) P is the Laplacian of a graph with
// weights
//   W_jk = sum_i P_ij P_ik / r_i >= 0,   0 <= k < j < M.
// Taking every pivot as the sum of its weights, never as a difference, keeps all digits (Grassmann,
// Taksar, Heyman).
#pragma once

#include "sinkhorn_sums.cuh"

namespace rlsv_fast::cuda {

// The graph, (columns, columns) of which the part below the diagonal is used. A warp takes a row
// and holds several of its weights per lane, for which it divides once.
template <typename System, typename W>
__device__ __forceinline__ void make_graph(const System& system, W* graph) {
  constexpr int kStrip = 4;
  const int warp = warp_index(), lane = lane_index(), columns = system.columns;
  for (int j = warp; j < columns; j += kWarps)
    for (int from = 0; from < j; from += kStrip * int(kWarp)) {
      W totals[kStrip] = {};
#pragma unroll 2
      for (int i = 0; i < system.rows; ++i) {
        const W mass = system.r()[i];
        const W share = mass > W(0) ? system.entry(i, j) / mass : W(0);
#pragma unroll
        for (int s = 0; s < kStrip; ++s) {
          const int k = from + s * int(kWarp) + lane;
          totals[s] += share * system.entry(i, k < j ? k : j);
        }
      }
#pragma unroll
      for (int s = 0; s < kStrip; ++s) {
        const int k = from + s * int(kWarp) + lane;
        if (k < j) graph[int64_t(j) * columns + k] = totals[s];
      }
    }
  __syncthreads();
}

// q from the residual, which is used up; q_0 = 0. Ends with a barrier.
template <typename System, typename W>
__device__ __forceinline__ void eliminate(const System& system, W* graph) {
  const int warp = warp_index(), lane = lane_index(), columns = system.columns;
  W *q = system.q(), *residual = system.residual(), *degrees = system.image();
  make_graph(system, graph);
  for (int last = columns - 1; last > 0; --last) {
    const W* edges = graph + int64_t(last) * columns;
    W degree = 0;
    each(last, [&](int k) { degree += edges[k]; });
    degree = system.reduce(degree);
    if (threadIdx.x == 0) degrees[last] = degree;
    if (!(degree > W(0))) continue;
    for (int k = warp; k < last; k += kWarps) {
      const W share = edges[k] / degree;
      if (!(share > W(0))) continue;
      if (lane == 0) residual[k] += share * residual[last];
      for (int l = lane; l < k; l += kWarp) graph[int64_t(k) * columns + l] += edges[l] * share;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) q[0] = W(0);
  for (int j = 1; j < columns; ++j) {
    __syncthreads();
    W total = 0;
    each(j, [&](int k) { total += graph[int64_t(j) * columns + k] * q[k]; });
    total = system.reduce(total);
    if (threadIdx.x == 0) q[j] = degrees[j] > W(0) ? (residual[j] + total) / degrees[j] : W(0);
  }
  __syncthreads();
}

}  // namespace rlsv_fast::cuda
