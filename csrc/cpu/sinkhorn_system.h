// The linear system behind the implicit derivative of a plan P (sinkhorn_gradient.cpp):
//   [diag(r) P; P' diag(c)] [p; q] = [wr; wc],   wr = (P o H) 1,  wc = (P o H)' 1.
//
// Symmetric plans (f = g): one positive definite system (diag(r) + P) z = w of condition <= 2, p =
// q = z, with w the mean of both right-hand sides; for symmetric perturbations of M, which are all
// that such a problem admits, this is exact for every H.
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

#include "sinkhorn.h"
#include "sinkhorn_elimination.h"

namespace rlsv_fast::RLSV_PASS {

// One item's slice of the batch.
template <typename T>
struct Item {
  const T *upstream, *cost, *plan;  // upstream = H, or M for the distance
  int64_t rows, columns;
  T epsilon, scale;  // scale = s for the distance
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

  // Reads a plan; its column sums only where they differ from the row sums or are asked for.
  RLSV_INLINE void read(const Item<T>& item, bool with_columns) {
    std::fill(c, c + width, W(0));
    std::fill(wc, wc + width, W(0));
    for (int64_t i = 0; i < rows; ++i) {
      const bool room = room_after<W>(i, rows, columns);
      Vec<W> row = {}, weighted = {};
      for (int64_t j = 0; j < width; j += kLanes<W>) {
        Vec<W> entry, flow, column;
        widen_padded(item.plan + i * columns + j, columns - j, entry, room);
        widen_padded(item.upstream + i * columns + j, columns - j, flow, room);
        store<W>(entry, plan + i * width + j);
        flow *= entry;
        row += entry;
        weighted += flow;
        if (!with_columns) continue;
        load(c + j, column);
        store<W>(column + entry, c + j);
        load(wc + j, column);
        store<W>(column + flow, wc + j);
      }
      r[i] = sum<W>(row);
      wr[i] = sum<W>(weighted);
    }
    if (!with_columns) std::copy(wr, wr + rows, wc);
  }

  template <typename From>
  RLSV_INLINE static void widen_padded(const From* from, int64_t count, Vec<W>& to, bool room) {
    if constexpr (std::is_same_v<From, W>) {
      load_padded(from, count, W(0), to, room);
    } else {
      W lanes[kLanes<W>];
      for (int64_t lane = 0; lane < kLanes<W>; ++lane)
        lanes[lane] = lane < count ? W(from[lane]) : W(0);
      load(lanes, to);
    }
  }

  // The largest entry of a vector, by which a right-hand side is scaled: its squares may underflow.
  RLSV_INLINE static W largest(const W* values, int64_t count) {
    W most = 0;
    for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(values[i]));
    return most;
  }

  // p = q = z with (diag(r) + P) z = (wr + wc) / 2, preconditioned by diag(r).
  RLSV_INLINE void solve_symmetric() {
    constexpr int64_t kSteps = 64;
    for (int64_t i = 0; i < width; ++i) residual[i] = (wr[i] + wc[i]) / 2;
    const W unit = largest(residual, columns);
    std::fill(q, q + width, W(0));
    if (unit > W(0)) {
      W energy = 0, first = 0, step = 0;
      for (int64_t i = 0; i < width; ++i) residual[i] /= unit;
      for (int64_t count = 0; count <= kSteps; ++count) {
        Vec<W> total = {};
        for (int64_t i = 0; i < width; i += kLanes<W>) {
          Vec<W> rest, row, direction, moved;
          load(residual + i, rest);
          load(r + i, row);
          if (count > 0) {  // the step along the last direction
            load(image + i, moved);
            rest -= moved * step;
            store<W>(rest, residual + i);
            load(ahead + i, direction);
            load(q + i, moved);
            store<W>(moved + direction * step, q + i);
          }
          total += row > W(0) ? rest * (rest / row) : Vec<W>{};
        }
        const W last = energy;
        energy = sum<W>(total);
        if (count == 0) first = energy;
        constexpr W kEnough = std::numeric_limits<W>::epsilon();
        if (!(energy > kEnough * kEnough * first) || count == kSteps) break;
        const W keep = count == 0 ? W(0) : energy / last;
        for (int64_t i = 0; i < width; i += kLanes<W>) {
          Vec<W> rest, row, direction;
          load(residual + i, rest);
          load(r + i, row);
          load(ahead + i, direction);
          direction =
              (row > W(0) ? rest / row : Vec<W>{}) + (count == 0 ? Vec<W>{} : direction * keep);
          store<W>(direction, ahead + i);
        }
        multiply(plan, rows, width, ahead, image);
        Vec<W> curvature = {};
        for (int64_t i = 0; i < width; i += kLanes<W>) {
          Vec<W> row, direction, moved;
          load(r + i, row);
          load(ahead + i, direction);
          load(image + i, moved);
          moved += row * direction;
          store<W>(moved, image + i);
          curvature += moved * direction;
        }
        step = energy / sum<W>(curvature);
      }
      for (int64_t i = 0; i < width; ++i) q[i] *= unit;
    }
    std::copy(q, q + rows, p);
  }

  // result = (diag(c) - P' diag(1/r) P) values, in one stream over P.
  RLSV_INLINE void complement(const W* values, W* result) {
    for (int64_t j = 0; j < width; ++j) result[j] = c[j] * values[j];
    for (int64_t i = 0; i < rows; i += kGroup) {
      W mass[kGroup];
      dot_group(plan + i * width, width, values, mass);
      for (int64_t k = 0; k < kGroup; ++k) mass[k] = r[i + k] > W(0) ? -mass[k] / r[i + k] : W(0);
      add_group(plan + i * width, width, mass, result);
    }
  }

  // Removes the part of the residual that no solution can reach: its sum is zero in exact terms.
  RLSV_INLINE void project() {
    W total = 0, mass = 0;
    for (int64_t j = 0; j < columns; ++j) total += residual[j], mass += c[j];
    const W share = mass > W(0) ? total / mass : W(0);
    for (int64_t j = 0; j < columns; ++j) residual[j] -= share * c[j];
  }

  RLSV_INLINE W preconditioned_energy() const {
    W total = 0;
    for (int64_t j = 0; j < columns; ++j)
      total += c[j] > W(0) ? residual[j] * (residual[j] / c[j]) : W(0);
    return total;
  }

  // Conjugate gradients for the columns' part; false where they do not converge.
  RLSV_INLINE bool descend(W enough) {
    const int64_t steps = std::min<int64_t>(columns + 20, 300);
    project();
    const W first = preconditioned_energy();
    W energy = first, keep = 0;
    for (int64_t count = 0; count < steps && energy > enough * enough * first; ++count) {
      for (int64_t j = 0; j < columns; ++j)
        ahead[j] = (c[j] > W(0) ? residual[j] / c[j] : W(0)) + (count > 0 ? keep * ahead[j] : W(0));
      complement(ahead, image);
      const W curvature = inner(ahead, image, width);
      if (!(curvature > W(0))) return false;
      const W step = energy / curvature;
      for (int64_t j = 0; j < columns; ++j) {
        q[j] += step * ahead[j];
        residual[j] -= step * image[j];
      }
      project();
      const W last = energy;
      energy = preconditioned_energy();
      keep = energy / last;
    }
    return energy <= enough * enough * first;
  }

  // residual = wc - P' (wr / r), made of differences term by term.
  RLSV_INLINE void reduce(const Item<T>& item, W unit) {
    std::fill(residual, residual + width, W(0));
    for (int64_t i = 0; i < rows; ++i) {
      const W mean = r[i] > W(0) ? wr[i] / r[i] : W(0);
      for (int64_t j = 0; j < columns; ++j)
        residual[j] += plan[i * width + j] * (W(item.upstream[i * columns + j]) - mean) / unit;
    }
  }

  RLSV_INLINE void solve_general(const Item<T>& item) {
    constexpr W kEnough = W(sizeof(T) == 4 ? 1e-12 : 1e-14);
    std::fill(q, q + width, W(0));
    const W unit = std::max(largest(wr, rows), largest(wc, columns));
    if (unit > W(0)) {
      reduce(item, unit);
      if (!descend(kEnough)) eliminate(*this, item, unit);
      W level = 0, mass = 0;
      for (int64_t j = 0; j < columns; ++j) level += c[j] * q[j], mass += c[j];
      level = mass > W(0) ? level / mass : W(0);
      for (int64_t j = 0; j < columns; ++j) q[j] = c[j] == W(0) ? W(0) : (q[j] - level) * unit;
    }
    multiply(plan, rows, width, q, p);
    for (int64_t i = 0; i < rows; ++i) p[i] = r[i] == W(0) ? W(0) : (wr[i] - p[i]) / r[i];
  }

  // The gradients from p and q; returns dL/deps.
  RLSV_INLINE double write(const Item<T>& item, T* grad_cost, T* grad_row, T* grad_column) const {
    const W rate = item.scale / W(item.epsilon);
    const W direct = item.distance ? W(item.scale) : W(0);
    double by_epsilon = 0;
    for (int64_t i = 0; i < rows; ++i) {
      const bool room = room_after<W>(i, rows, columns);
      Vec<W> along = {};
      for (int64_t j = 0; j < width; j += kLanes<W>) {
        const int64_t at = i * columns + j, count = columns - j;
        Vec<W> entry, flow, cost, potential;
        load(plan + i * width + j, entry);
        load(q + j, potential);
        widen_padded(item.upstream + at, count, flow, room);
        flow = entry * (potential + p[i] - flow) * rate;
        widen_padded(item.cost + at, count, cost, room);
        along += flow * cost;
        flow += entry * direct;
        if constexpr (std::is_same_v<T, W>) {
          store_cut<W>(flow, count, grad_cost + at, room);
        } else {
          for (int64_t lane = 0; lane < std::min(count, kLanes<W>); ++lane)
            grad_cost[at + lane] = T(flow[lane]);
        }
      }
      by_epsilon -= double(sum<W>(along));
      grad_row[i] = T(p[i] * W(item.scale));
    }
    for (int64_t j = 0; j < columns; ++j) grad_column[j] = T(q[j] * W(item.scale));
    return by_epsilon / double(item.epsilon);
  }
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
