// The columns' part of the linear system in sinkhorn_system.h by elimination, for plans P that
// nearly fall apart. The Schur complement diag(c) - P' diag(1/r) P is the Laplacian of a graph with
// weights
//   W_jk = sum_i P_ij P_ik / r_i >= 0,   0 <= k < j < M.
// Taking every pivot as the sum of its weights, never as a difference, keeps all digits (Grassmann,
// Taksar, Heyman).
#if defined(RLSV_SINKHORN_ELIMINATION_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_ELIMINATION_H)
#undef RLSV_SINKHORN_ELIMINATION_H
#else
#define RLSV_SINKHORN_ELIMINATION_H
#endif

#include "sinkhorn.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T, typename W>
struct System;  // sinkhorn_system.h

// to += factor from
template <typename W>
RLSV_INLINE void add_multiple(const W* from, W factor, int64_t width, W* to) {
  for (int64_t j = 0; j < width; j += kLanes<W>) {
    Vec<W> source, target;
    load(from + j, source);
    load(to + j, target);
    store<W>(target + source * factor, to + j);
  }
}

// q from the residual, which is used up; q_0 = 0.
template <typename T, typename W>
RLSV_INLINE void eliminate(const System<T, W>& system) {
  const int64_t rows = system.rows, columns = system.columns, width = system.width;
  const W* r = system.r;
  W *q = system.q, *residual = system.residual, *degrees = system.image;
  Arena<W> storage(columns * width);
  W* graph = storage.take(columns * width);
  for (int64_t i = 0; i < rows; ++i) {
    const W* row = system.plan + i * width;
    for (int64_t j = 0; j < columns; ++j) {
      const W share = r[i] > W(0) ? row[j] / r[i] : W(0);
      if (share > W(0)) add_multiple(row, share, round_up(j + 1, kLanes<W>), graph + j * width);
    }
  }
  for (int64_t last = columns - 1; last > 0; --last) {
    const W* edges = graph + last * width;
    W degree = 0;
    for (int64_t k = 0; k < last; ++k) degree += edges[k];
    degrees[last] = degree;
    if (!(degree > W(0))) continue;
    for (int64_t k = 0; k < last; ++k) {
      const W share = edges[k] / degree;
      if (!(share > W(0))) continue;
      residual[k] += share * residual[last];
      add_multiple(edges, share, round_up(k, kLanes<W>), graph + k * width);
    }
  }
  q[0] = W(0);
  for (int64_t j = 1; j < columns; ++j) {
    W total = residual[j];
    for (int64_t k = 0; k < j; ++k) total += graph[j * width + k] * q[k];
    q[j] = degrees[j] > W(0) ? total / degrees[j] : W(0);
  }
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
