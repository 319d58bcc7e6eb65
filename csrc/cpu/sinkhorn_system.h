// The linear system behind the implicit derivative of a plan P (sinkhorn_gradient.cpp):
//   [diag(r) P; P' diag(c)] [p; q] = [wr; wc],   wr = (P o H) 1,  wc = (P o H)' 1.
//
// Symmetric plans (f = g): p = q = z with (diag(r) + P) z = w, sinkhorn_definite.h, where w is the
// mean of both right-hand sides; for symmetric perturbations of M, which are all that such a
// problem admits, this is exact for every H.
// Others: conjugate gradients on the Schur complement diag(c) - P' diag(1/r) P in double, its null
// space (constants) projected out; gauge sum_j c_j q_j = 0, where scaling b alone changes nothing.
// Plans that fall into nearly separate blocks have no usable condition number; these are solved
// by elimination, sinkhorn_elimination.h. Weights of zero have p or q = 0.
#if defined(RLSV_SINKHORN_SYSTEM_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_SYSTEM_H)
#undef RLSV_SINKHORN_SYSTEM_H
#else
#define RLSV_SINKHORN_SYSTEM_H
#endif

#include "sinkhorn_definite.h"
#include "sinkhorn_elimination.h"

namespace rlsv_fast::RLSV_PASS {

// One item's slice of the batch. For the distance, H = M, and dL/dM has P as a part of its own.
template <typename T>
struct Item {
  const T *upstream, *cost;  // H, M
  int64_t rows, columns;
  T epsilon;
  bool distance;
};

// The plan in padded storage of type W, and both sides of the system.
template <typename T, typename W>
struct System {
  int64_t rows, columns, height, width;
  Arena<W> arena;
  W* plan;
  W *r, *wr, *p;                             // per row
  W *c, *wc, *q, *residual, *ahead, *image;  // per column

  System(int64_t rows, int64_t columns)
      : rows(rows),
        columns(columns),
        height(round_up(rows, kPadding<W>)),
        width(round_up(columns, kPadding<W>)),
        arena(height * width + 3 * height + 6 * width),
        plan(arena.take(height * width)) {
    for (W** slice : {&r, &wr, &p}) *slice = arena.take(height);
    for (W** slice : {&c, &wc, &q, &residual, &ahead, &image}) *slice = arena.take(width);
  }

  // Reads P_ij = x_i K_ij y_j, rows of K being `stride` numbers apart, and H.
  template <typename Scaling>
  RLSV_INLINE void read(const Item<T>& item, const T* kernel, int64_t stride,
                        const Scaling& scaling) {
    std::fill(c, c + width, W(0));
    std::fill(wc, wc + width, W(0));
    for (int64_t i = 0; i < rows; ++i) {
      const bool room = room_after<W>(i, rows, columns);
      Vec<W> row = {}, weighted = {};
      for (int64_t j = 0; j < width; j += kLanes<W>) {
        Vec<W> entry, flow, column;
        widen_padded(kernel + i * stride + j, columns - j, entry, room);
        widen_padded(item.upstream + i * columns + j, columns - j, flow, room);
        scaling(i, j, entry);
        store<W>(entry, plan + i * width + j);
        flow *= entry;
        row += entry;
        weighted += flow;
        load(c + j, column);
        store<W>(column + entry, c + j);
        load(wc + j, column);
        store<W>(column + flow, wc + j);
      }
      r[i] = sum<W>(row);
      wr[i] = sum<W>(weighted);
    }
  }
  RLSV_INLINE void read(const Item<T>& item, const T* given) {
    read(item, given, columns, [](int64_t, int64_t, Vec<W>&) {});
  }

  template <typename From>
  RLSV_INLINE static void widen_padded(const From* from, int64_t count, Vec<W>& to, bool room) {
    if constexpr (std::is_same_v<From, W>)
      load_padded(from, count, W(0), to, room);
    else
      widen_part(from, std::max<int64_t>(count, 0), to);
  }

  // p = q = z with (diag(r) + P) z = (wr + wc) / 2.
  RLSV_INLINE void solve_symmetric() {
    Arena<W> storage(Definite<W>::kVectors * width);
    for (int64_t i = 0; i < width; ++i) wr[i] = (wr[i] + wc[i]) / 2;
    const W* z = Definite<W>(storage, width).solve(r, wr, [&](const W* ahead, W*, W* image) {
      multiply(plan, rows, width, ahead, image);
    });
    std::copy(z, z + rows, p);
    std::copy(z, z + width, q);
  }

  // result = (diag(c) - P' diag(1/r) P) values, in one stream over P.
  RLSV_INLINE void complement(const W* values, W* result) {
    turn(plan, rows, width, values, result, [&](int64_t i, const W* mass, W* weights) {
      for (int64_t k = 0; k < kGroup; ++k)
        weights[k] = r[i + k] > W(0) ? -mass[k] / r[i + k] : W(0);
    });
    each_column([&](int64_t j) {
      Vec<W> mass, value, total;
      load(c + j, mass);
      load(values + j, value);
      load(result + j, total);
      store<W>(mass * value + total, result + j);
    });
  }

  // Removes the part of the residual that no solution can reach: its sum is zero in exact terms.
  // Returns what the preconditioner diag(c) makes of the rest's square.
  RLSV_INLINE W project(W mass) {
    Vec<W> total = {}, energy = {};
    each_column([&](int64_t j) {
      Vec<W> rest;
      load(residual + j, rest);
      total += rest;
    });
    const W share = mass > W(0) ? sum<W>(total) / mass : W(0);
    each_column([&](int64_t j) {
      Vec<W> rest, column;
      load(residual + j, rest);
      load(c + j, column);
      rest -= column * share;
      store<W>(rest, residual + j);
      energy += column > W(0) ? rest * (rest / column) : Vec<W>{};
    });
    return sum<W>(energy);
  }

  // Conjugate gradients for the columns' part; false where they do not converge.
  RLSV_INLINE bool descend(W mass, W enough) {
    const int64_t steps = std::min<int64_t>(columns + 20, 300);
    const W first = project(mass);
    W energy = first, keep = 0;
    std::fill(ahead, ahead + width, W(0));
    for (int64_t count = 0; count < steps && energy > enough * enough * first; ++count) {
      each_column([&](int64_t j) {
        Vec<W> rest, column, direction;
        load(residual + j, rest);
        load(c + j, column);
        load(ahead + j, direction);
        direction = (column > W(0) ? rest / column : Vec<W>{}) + direction * keep;
        store<W>(direction, ahead + j);
      });
      complement(ahead, image);
      const W curvature = inner(ahead, image, width);
      if (!(curvature > W(0))) return false;
      const W step = energy / curvature;
      each_column([&](int64_t j) {
        Vec<W> direction, value;
        load(ahead + j, direction);
        load(q + j, value);
        store<W>(value + direction * step, q + j);
        load(image + j, direction);
        load(residual + j, value);
        store<W>(value - direction * step, residual + j);
      });
      const W last = energy;
      energy = project(mass);
      keep = energy / last;
    }
    return energy <= enough * enough * first;
  }

  // residual = wc - P' (wr / r), made of differences term by term.
  RLSV_INLINE void reduce(const Item<T>& item, W unit) {
    const W inverse = W(1) / std::max(unit, std::numeric_limits<W>::min());
    std::fill(residual, residual + width, W(0));
    for (int64_t i = 0; i < rows; ++i) {
      const bool room = room_after<W>(i, rows, columns);
      const W mean = r[i] > W(0) ? wr[i] / r[i] : W(0);
      each_column([&](int64_t j) {
        Vec<W> entry, flow, total;
        load(plan + i * width + j, entry);
        widen_padded(item.upstream + i * columns + j, columns - j, flow, room);
        load(residual + j, total);
        store<W>(total + entry * (flow - mean) * inverse, residual + j);
      });
    }
  }

  RLSV_INLINE void solve_general(const Item<T>& item) {
    constexpr W kEnough = W(sizeof(T) == 4 ? 1e-12 : 1e-14);
    for (int64_t j = 0; j < width; ++j) q[j] = c[j] * W(0);  // NaN where there is no plan
    const W unit = std::max(largest(wr, rows), largest(wc, columns));
    if (unit > W(0)) {
      W level = 0, mass = 0;
      for (int64_t j = 0; j < columns; ++j) mass += c[j];
      reduce(item, unit);
      if (!descend(mass, kEnough)) eliminate(*this, item, unit);
      for (int64_t j = 0; j < columns; ++j) level += c[j] * q[j];
      level = mass > W(0) ? level / mass : W(0);
      for (int64_t j = 0; j < columns; ++j) q[j] = c[j] == W(0) ? W(0) : (q[j] - level) * unit;
    }
    multiply(plan, rows, width, q, p);
    for (int64_t i = 0; i < rows; ++i) p[i] = r[i] == W(0) ? W(0) : (wr[i] - p[i]) / r[i];
  }

  // The gradients from p and q; returns dL/deps.
  RLSV_INLINE T write(const Item<T>& item, T* grad_cost, T* grad_row, T* grad_column) const {
    const W rate = W(1) / W(item.epsilon), direct = item.distance ? W(1) : W(0);
    double by_epsilon = 0;
    for (int64_t i = 0; i < rows; ++i) {
      const bool room = room_after<W>(i, rows, columns);
      Vec<W> along = {};
      each_column([&](int64_t j) {
        const int64_t at = i * columns + j, count = columns - j;
        Vec<W> entry, flow, cost, potential;
        load(plan + i * width + j, entry);
        load(q + j, potential);
        widen_padded(item.upstream + at, count, flow, room);
        flow = entry * (potential + p[i] - flow) * rate;
        widen_padded(item.cost + at, count, cost, room);
        along += flow * cost;
        flow += entry * direct;
        if constexpr (std::is_same_v<T, W>)
          store_cut<W>(flow, count, grad_cost + at, room);
        else if (count > 0)
          narrow_part(flow, count, grad_cost + at);
      });
      by_epsilon -= double(sum<W>(along));
      grad_row[i] = T(p[i]);
    }
    for (int64_t j = 0; j < columns; ++j) grad_column[j] = T(q[j]);
    return T(by_epsilon / double(item.epsilon));
  }

 private:
  template <typename Body>
  RLSV_INLINE void each_column(const Body& body) const {
    for (int64_t j = 0; j < width; j += kLanes<W>) body(j);
  }
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
