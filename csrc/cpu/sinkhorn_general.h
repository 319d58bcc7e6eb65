// Alternating Sinkhorn for any cost, columns first and rows last (the order of POT):
//   beta_j = log b_j - log sum_i exp(alpha_i - M_ij / eps),    0 <= j < M
//   alpha_i = log a_i - log sum_j exp(beta_j - M_ij / eps),    0 <= i < N,   from alpha = 0,
//   P_ij = exp(alpha_i + beta_j - M_ij / eps),    or from the alpha of potentials that are given.
//
// Hybrid of Schmitzer (arXiv 1610.06519): potentials u, v are absorbed in a density
// K_ij = 2^(u_i + v_j - M_ij log2(e) / eps), and an ordinary iteration only scales it,
//   y = b / (K' x),  x = a / (K y),  P_ij = x_i K_ij y_j,
// in one stream over K that also gives the next column sums K' x, hence the error of (x, y).
// When a sum leaves the safe range the potentials are absorbed in a new density; where its rows
// underflow as well, the iteration is made in the log domain: exact for any eps.
// Weights of zero have alpha or beta = -inf and x or y = 0; their u and v stay finite.
#if defined(RLSV_SINKHORN_GENERAL_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_GENERAL_H)
#undef RLSV_SINKHORN_GENERAL_H
#else
#define RLSV_SINKHORN_GENERAL_H
#endif

#include "sinkhorn.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T>
struct General {
  int64_t rows, columns, height, width;
  Arena<T> arena;
  T *scaled, *kernel;                      // -M log2(e) / eps and the density
  T *a, *x, *x_next, *u, *alpha, *totals;  // per row
  T *b, *y, *v, *beta, *inverse_b, *sums;  // per column; sums = K' x

  General(int64_t rows, int64_t columns)
      : rows(rows),
        columns(columns),
        height(round_up(rows, kPadding<T>)),
        width(round_up(columns, kPadding<T>)),
        arena(2 * height * width + 6 * (height + width)) {
    scaled = arena.take(height * width);
    kernel = arena.take(height * width);
    for (T** slice : {&a, &x, &x_next, &u, &alpha, &totals}) *slice = arena.take(height);
    for (T** slice : {&b, &y, &v, &beta, &inverse_b, &sums}) *slice = arena.take(width);
  }

  // Reads a problem. False where the cost is not finite: no plan exists.
  RLSV_INLINE bool read(const Problem<T>& problem) {
    const T scale = T(-kLog2E / double(problem.epsilon));
    Vec<T> poison = {};
    for (int64_t i = 0; i < rows; ++i) {
      const bool room = room_after<T>(i, rows, columns);
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        Vec<T> cost;
        load_padded(problem.cost + i * columns + j, columns - j, T(0), cost, room);
        poison += cost * T(0);
        store<T>(cost * scale, scaled + i * width + j);
      }
      std::fill(scaled + i * width + columns, scaled + (i + 1) * width, -Limits<T>::kFar);
    }
    std::copy(problem.row, problem.row + rows, a);
    std::copy(problem.column, problem.column + columns, b);
    std::fill(alpha, alpha + height, T(0));
    for (int64_t i = 0; problem.initial && i < rows; ++i) {
      const T given = problem.initial[i];
      const bool unknown = given == -std::numeric_limits<T>::infinity();
      alpha[i] = unknown && a[i] > T(0) ? T(0) : given * -scale;  // -inf is right for a_i = 0
      if (!unknown) poison += alpha[i] * T(0);
    }
    for (int64_t j = 0; j < columns; ++j)
      inverse_b[j] = b[j] < std::numeric_limits<T>::min() ? T(0) : T(1) / b[j];
    return sum<T>(poison) == T(0);
  }

  // The error of the plan: its columns against b (its rows are a by construction).
  RLSV_INLINE double column_error() const {
    Vec<T> total = {};
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      Vec<T> mass, scaling, want, gap;
      load(sums + j, mass);
      load(y + j, scaling);
      load(b + j, want);
      absolute<T>(mass * scaling - want, gap);
      total += gap;
    }
    return double(sum<T>(total));
  }

  // Takes alpha up in the density of the columns from j on, whose greatest entries become 1. Leaves
  // their sums, and the beta that these ask for.
  template <int64_t kStrip>
  RLSV_INLINE void absorb_columns(int64_t j) {
    Vec<T> top[kStrip], total[kStrip] = {}, weight, entry, power;
    for (int64_t k = 0; k < kStrip; ++k) top[k] = Vec<T>{} - std::numeric_limits<T>::infinity();
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < kStrip; ++k) {
        load(scaled + i * width + j + k * kLanes<T>, entry);
        entry += alpha[i];
        greater<T>(entry, top[k], top[k]);
      }
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < kStrip; ++k) {
        const int64_t at = i * width + j + k * kLanes<T>;
        load(scaled + at, entry);
        exp2<T>(entry + (alpha[i] - top[k]), Limits<T>::kLowest, power);
        total[k] += power;
        store<T>(power, kernel + at);
      }
    for (int64_t k = 0; k < kStrip; ++k) {
      const int64_t at = j + k * kLanes<T>;
      store<T>(-top[k], v + at);
      store<T>(total[k], sums + at);
      log2<T>(total[k], power);
      load(b + at, weight);
      log2<T>(weight, entry);
      store<T>(entry - top[k] - power, beta + at);
    }
  }

  // One iteration from alpha, whatever it is, with a new density: at NM exponentials, or twice as
  // many where a row of that density underflows.
  RLSV_INLINE void absorb() {
    constexpr int64_t kStrip = 4;  // vectors of columns: their rows are read in longer pieces
    int64_t start = 0;
    for (; start + kStrip * kLanes<T> <= width; start += kStrip * kLanes<T>)
      absorb_columns<kStrip>(start);
    for (; start < width; start += kLanes<T>) absorb_columns<1>(start);
    for (int64_t i = 0; i < rows; ++i) {
      std::fill(kernel + i * width + columns, kernel + (i + 1) * width, T(0));
      u[i] = std::max(alpha[i], std::numeric_limits<T>::lowest());
    }
    if (!scale()) absorb_rows();
  }

  // The rows' half of an iteration in the log domain, from beta; leaves x = a, y = b and a density
  // of which every row is a share of 1.
  RLSV_INLINE void absorb_rows() {
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      Vec<T> weight, potential;
      load(b + j, weight);
      store<T>(weight, y + j);
      load(beta + j, potential);
      log2<T>(weight, weight);
      store<T>(potential - weight, v + j);
      store<T>(Vec<T>{}, sums + j);
    }
    for (int64_t j = 0; j < columns; ++j)  // -inf less -inf
      if (inverse_b[j] == T(0)) v[j] = T(0);
    for (int64_t i = 0; i < rows; ++i) {
      T* row = kernel + i * width;
      Vec<T> top = Vec<T>{} - std::numeric_limits<T>::infinity(), total = {}, entry, offset, power;
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        load(scaled + i * width + j, entry);
        load(beta + j, offset);
        entry += offset;
        greater<T>(entry, top, top);
      }
      const T level = highest<T>(top);
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        load(scaled + i * width + j, entry);
        load(beta + j, offset);
        exp2<T>(entry + offset - level, Limits<T>::kLowest, power);
        total += power;
        load(inverse_b + j, offset);
        store<T>(power * offset, row + j);
      }
      totals[i] = sum<T>(total);
      u[i] = -level;
      const T share = T(1) / totals[i];
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        load(row + j, entry);
        entry *= share;
        store<T>(entry, row + j);
        load(sums + j, total);
        store<T>(total + entry * a[i], sums + j);
      }
    }
    for (int64_t i = 0; i < height; i += kLanes<T>) {
      Vec<T> total, level, logarithm;
      load(totals + i, total);
      load(u + i, level);
      log2<T>(total, logarithm);
      store<T>(level - logarithm, u + i);
      load(a + i, total);
      store<T>(total, x + i);
    }
  }

  // One iteration on the scalings. False, with x untouched, where a sum leaves the safe range.
  RLSV_INLINE bool scale() {
    Mask<T> unsafe = {};
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      Vec<T> mass, want;
      load(sums + j, mass);
      load(b + j, want);
      const Mask<T> inside = (mass >= Limits<T>::kSmall) & (mass <= Limits<T>::kLarge);
      unsafe |= ~inside & (want > T(0));
      store<T>(want > T(0) ? want / mass : Vec<T>{}, y + j);
    }
    const Vec<T> flags = unsafe ? Vec<T>{} + T(1) : Vec<T>{};
    bool safe = sum<T>(flags) == T(0);
    turn(kernel, rows, width, y, sums, [&](int64_t i, const T* mass, T* weights) {
      for (int64_t k = 0; k < kGroup; ++k) {
        const bool inside = mass[k] >= Limits<T>::kSmall && mass[k] <= Limits<T>::kLarge;
        const bool wanted = a[i + k] > T(0);
        safe &= inside | !wanted;
        weights[k] = wanted ? a[i + k] / mass[k] : T(0);
        x_next[i + k] = weights[k];
      }
    });
    if (safe) std::swap(x, x_next);
    return safe;
  }

  // alpha = u + log2 x, beta = v + log2 y: the potentials in base 2.
  RLSV_INLINE void potentials() {
    for (int64_t i = 0; i < height; i += kLanes<T>) {
      Vec<T> scaling, potential;
      load(x + i, scaling);
      load(u + i, potential);
      log2<T>(scaling, scaling);
      store<T>(potential + scaling, alpha + i);
    }
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      Vec<T> scaling, potential;
      load(y + j, scaling);
      load(v + j, potential);
      log2<T>(scaling, scaling);
      store<T>(potential + scaling, beta + j);
    }
  }

  // The plan of no iteration: beta = 0. Returns its error, the worse of rows and columns.
  RLSV_INLINE double stand() {
    double row_gap = 0;
    std::copy(alpha, alpha + height, u);
    std::fill(v, v + width, T(0));
    std::fill(beta, beta + width, T(0));
    std::fill(x, x + rows, T(1));
    std::fill(y, y + columns, T(1));
    std::fill(sums, sums + width, T(0));
    for (int64_t i = 0; i < rows; ++i) {
      Vec<T> total = {}, entry;
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        load(scaled + i * width + j, entry);
        exp2<T>(entry + alpha[i], Limits<T>::kLowest, entry);
        store<T>(entry, kernel + i * width + j);
        total += entry;
        Vec<T> mass;
        load(sums + j, mass);
        store<T>(mass + entry, sums + j);
      }
      row_gap += std::abs(double(sum<T>(total)) - double(a[i]));
    }
    return std::max(row_gap, column_error());
  }
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
