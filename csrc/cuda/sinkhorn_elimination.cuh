// The columns' part of the linear system in sinkhorn_system.cuh by elimination, for plans P that
// nearly fall apart. The Schur complement is the Laplacian of a graph, and its right-hand side the
// sum of what flows along the edges: with 0 <= j, k < M and j != k,
//   W_jk = sum_i P_ij P_ik / r_i >= 0,   F_jk = sum_i P_ij P_ik / r_i (H_ij - H_ik) = -F_kj,
//   sum_k W_jk (q_j - q_k) = sum_k F_jk.
// Without node l, of degree d = sum_k W_lk, the others have
//   W_jk + W_jl W_lk / d,   F_jk + (F_jl W_lk + W_jl F_lk) / d.
// Nothing cancels, so that all digits are kept: cpu/sinkhorn_elimination.h.
#pragma once

#include "sinkhorn_sums.cuh"

namespace rlsv_fast::cuda {

// `graph`, (columns, columns), of the upstream H / unit: W_jk at (j, k) and F_jk at (k, j), k < j.
// A warp takes a row and holds several of its edges per lane, for which it divides once.
template <typename System, typename T, typename W>
__device__ __forceinline__ void make_graph(const System& system, const T* upstream, W unit,
                                           W* graph) {
  constexpr int kStrip = 4;
  const int lane = lane_index(), columns = system.columns;
  for (int j = warp_index(); j < columns; j += kWarps)
    for (int from = 0; from < columns; from += kStrip * int(kWarp)) {
      W totals[kStrip] = {};
      for (int i = 0; i < system.rows; ++i) {
        const W mass = system.r()[i], share = mass > W(0) ? system.entry(i, j) / mass : W(0);
        const T* row = upstream + int64_t(i) * columns;
        const W level = W(row[j]);
#pragma unroll
        for (int s = 0; s < kStrip; ++s) {
          const int at = from + s * int(kWarp) + lane, k = at < columns ? at : columns - 1;
          const W flow = share * system.entry(i, k);
          totals[s] += k < j ? flow : flow * (W(row[k]) - level);
        }
      }
#pragma unroll
      for (int s = 0; s < kStrip; ++s) {
        const int k = from + s * int(kWarp) + lane;
        if (k < columns) graph[int64_t(j) * columns + k] = k < j ? totals[s] : totals[s] / unit;
      }
    }
  __syncthreads();
}

// q for the upstream H / unit; q_0 = 0. Ends with a barrier.
template <typename System, typename T, typename W>
__device__ __forceinline__ void eliminate(const System& system, const T* upstream, W unit,
                                          W* graph) {
  const int lane = lane_index(), columns = system.columns;
  W *q = system.q(), *degrees = system.image(), *inflow = system.residual(), *flow = system.ahead();
  make_graph(system, upstream, unit, graph);
  for (int last = columns - 1; last > 0; --last) {
    const W* weight = graph + int64_t(last) * columns;
    W degree = 0, total = 0;
    each(last, [&](int k) {
      const W in = graph[int64_t(k) * columns + last];
      flow[k] = in;
      degree += weight[k];
      total += in;
    });
    degree = system.reduce(degree);
    total = system.reduce(total);
    if (threadIdx.x == 0) {
      degrees[last] = degree;
      inflow[last] = total;
    }
    if (!(degree > W(0))) continue;
    for (int k = warp_index(); k < last; k += kWarps) {
      const W share = weight[k] / degree, drop = flow[k] / degree;
      if (!(share > W(0))) continue;
      W* edges = graph + int64_t(k) * columns;
#pragma unroll 2
      for (int j = lane; j < last; j += kWarp)
        if (j != k) edges[j] += j < k ? weight[j] * share : weight[j] * drop - flow[j] * share;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) q[0] = W(0);
  for (int j = 1; j < columns; ++j) {
    __syncthreads();
    W total = 0;
    each(j, [&](int k) { total += graph[int64_t(j) * columns + k] * q[k]; });
    total = system.reduce(total);
    if (threadIdx.x == 0) q[j] = degrees[j] > W(0) ? (inflow[j] + total) / degrees[j] : W(0);
  }
  __syncthreads();
}

}  // namespace rlsv_fast::cuda
