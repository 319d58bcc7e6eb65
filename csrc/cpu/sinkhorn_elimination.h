// The columns' part of the linear system in sinkhorn_system.h by elimination, for plans P that
// nearly fall apart. The Schur complement diag(c) - P' diag(1/r) P is the Laplacian of a graph, and
// its right-hand side the sum of what flows along the edges: with 0 <= j, k < M and j != k,
//   W_jk = sum_i P_ij P_ik / r_i >= 0,   F_jk = sum_i P_ij P_ik / r_i (H_ij - H_ik) = -F_kj,
//   sum_k W_jk (q_j - q_k) = sum_k F_jk.
// Without node l, of degree d = sum_k W_lk, the others have
//   W_jk + W_jl W_lk / d,   F_jk + (F_jl W_lk + W_jl F_lk) / d.
// Pivots that are sums of weights, never differences (Grassmann, Taksar, Heyman), keep all digits
// of the weights, however small, and flows on edges keep those of q: right-hand sides of nodes
// would lose them in sums that cancel.
#if defined(RLSV_SINKHORN_ELIMINATION_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_ELIMINATION_H)
#undef RLSV_SINKHORN_ELIMINATION_H
#else
#define RLSV_SINKHORN_ELIMINATION_H
#endif

#include "sinkhorn.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T>
struct Item;
template <typename T, typename W>
struct System;  // sinkhorn_system.h

// q for the upstream H / unit; q_0 = 0.
template <typename T, typename W>
RLSV_INLINE void eliminate(const System<T, W>& system, const Item<T>& item, W unit) {
  const int64_t rows = system.rows, columns = system.columns;
  W *q = system.q, *degrees = system.image, *inflow = system.residual, *flow = system.ahead;
  Arena<W> storage(columns * columns);
  W* graph = storage.take(columns * columns);  // W_jk at (j, k) and F_jk at (k, j), k < j
  for (int64_t i = 0; i < rows; ++i) {
    const W *mass = system.plan + i * system.width, r = system.r[i];
    const T* upstream = item.upstream + i * columns;
    for (int64_t j = 0; j < columns; ++j) {
      const W share = r > W(0) ? mass[j] / r : W(0);
      if (!(share > W(0))) continue;
      W* edges = graph + j * columns;
      for (int64_t k = 0; k < j; ++k) edges[k] += share * mass[k];
      for (int64_t k = j + 1; k < columns; ++k)
        edges[k] += share * mass[k] * ((W(upstream[k]) - W(upstream[j])) / unit);
    }
  }
  for (int64_t last = columns - 1; last > 0; --last) {
    const W* weight = graph + last * columns;
    W degree = 0, total = 0;
    for (int64_t k = 0; k < last; ++k) {
      flow[k] = graph[k * columns + last];
      degree += weight[k];
      total += flow[k];
    }
    degrees[last] = degree;
    inflow[last] = total;
    if (!(degree > W(0))) continue;
    for (int64_t k = 0; k < last; ++k) {
      const W share = weight[k] / degree, drop = flow[k] / degree;
      if (!(share > W(0))) continue;
      W* edges = graph + k * columns;
      for (int64_t j = 0; j < k; ++j) edges[j] += weight[j] * share;
      for (int64_t j = k + 1; j < last; ++j) edges[j] += weight[j] * drop - flow[j] * share;
    }
  }
  q[0] = W(0);
  for (int64_t j = 1; j < columns; ++j) {
    W total = inflow[j];
    for (int64_t k = 0; k < j; ++k) total += graph[j * columns + k] * q[k];
    q[j] = degrees[j] > W(0) ? total / degrees[j] : W(0);
  }
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
