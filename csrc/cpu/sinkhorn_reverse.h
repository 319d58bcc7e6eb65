// The way back through the iterations of sinkhorn_unrolled.cpp, whose names are used here.
//
// The rows of R and the columns of C are divided by the sums that they have, not by a and b: the
// potentials are rounded, and at small eps exp(potential / eps) is off by far more than rounding.
// R and C differ from one reference plan K by scalings of rows and columns, as long as these stay
// in a safe range: a half-step is one product with K, and Gamma is -K o (a matrix product of the
// scalings), made for a block of half-steps at once. Out of range, K is made anew.
#if defined(RLSV_SINKHORN_REVERSE_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_REVERSE_H)
#undef RLSV_SINKHORN_REVERSE_H
#else
#define RLSV_SINKHORN_REVERSE_H
#endif

#include "sinkhorn.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T>
struct Unrolled {
  const T *grad, *cost, *epsilon, *row, *column;
  int64_t rows, columns, iterations;
  T *potentials, *distance, *error;  // potentials (B, n + 1, N + M), in base 2; row 0 is the start
  T *grad_cost, *grad_epsilon, *grad_row, *grad_column;

  Problem<T> problem(int64_t item) const {
    return {cost + item * rows * columns,
            row + item * rows,
            column + item * columns,
            nullptr,
            rows,
            columns,
            epsilon[item]};
  }
};

template <typename T>
struct Reverse {
  static constexpr int64_t kBlock = 32;  // half-steps whose Gamma is made at once

  int64_t rows, columns, height, width;
  Arena<T> arena;
  T *scaled, *kernel, *gamma;
  T *left, *right;  // (block, height), (block, width)
  T *h, *x, *h_scaled, *reference_row, *by_row, *inverse_a;
  T *k, *y, *k_scaled, *reference_column, *by_column, *inverse_b;
  int64_t pending = 0;

  Reverse(int64_t rows, int64_t columns)
      : rows(rows),
        columns(columns),
        height(round_up(rows, kPadding<T>)),
        width(round_up(columns, kPadding<T>)),
        arena(3 * height * width + (kBlock + 6) * (height + width)) {
    for (T** slice : {&scaled, &kernel, &gamma}) *slice = arena.take(height * width);
    left = arena.take(kBlock * height);
    right = arena.take(kBlock * width);
    for (T** slice : {&h, &x, &h_scaled, &reference_row, &by_row, &inverse_a})
      *slice = arena.take(height);
    for (T** slice : {&k, &y, &k_scaled, &reference_column, &by_column, &inverse_b})
      *slice = arena.take(width);
  }

  // K = P^(reference), padding zero.
  RLSV_INLINE void rebuild(const T* alpha, const T* beta) {
    flush();
    std::copy(alpha, alpha + rows, reference_row);
    std::copy(beta, beta + columns, reference_column);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        Vec<T> exponent, offset;
        load(scaled + i * width + j, exponent);
        load(reference_column + j, offset);
        exp2<T>(exponent + offset + reference_row[i], Limits<T>::kLowest, exponent);
        store<T>(exponent, kernel + i * width + j);
      }
  }

  // scalings = 2^(potential - reference), 0 for -inf. False where one is out of reach.
  RLSV_INLINE static bool scalings(const T* potential, const T* reference, int64_t count,
                                   T* result) {
    constexpr T kNowhere = -std::numeric_limits<T>::infinity();
    Mask<T> far = {};
    for (int64_t i = 0; i < count; i += kLanes<T>) {
      Vec<T> to, from, change, size;
      load_padded(potential + i, count - i, kNowhere, to);
      load(reference + i, from);
      change = to > kNowhere ? to - from : Vec<T>{};
      absolute<T>(change, size);
      far |= ~(size <= Limits<T>::kReach);
      exp2<T>(change, -Limits<T>::kReach - T(1), change);
      store<T>(to > kNowhere ? change : Vec<T>{}, result + i);
    }
    const Vec<T> flags = far ? Vec<T>{} + T(1) : Vec<T>{};
    return sum<T>(flags) == T(0);
  }

  // Makes x and y so that P^(alpha, beta) = diag(x) K diag(y).
  RLSV_INLINE void aim(const T* alpha, const T* beta) {
    const bool near = scalings(alpha, reference_row, rows, x);
    if (scalings(beta, reference_column, columns, y) && near) return;
    rebuild(alpha, beta);
    scalings(alpha, reference_row, rows, x);
    scalings(beta, reference_column, columns, y);
  }

  // Gamma -= K o (left' right) over the pending half-steps.
  RLSV_INLINE void flush() {
    if (pending == 0) return;
    for (int64_t i = 0; i < rows; i += kGroup)
      for (int64_t j = 0; j < width; j += kLanes<T>) {
        Vec<T> totals[kGroup] = {};
        for (int64_t step = 0; step < pending; ++step) {
          Vec<T> across;
          load(right + step * width + j, across);
          for (int64_t k = 0; k < kGroup; ++k) totals[k] += across * left[step * height + i + k];
        }
        for (int64_t k = 0; k < kGroup; ++k) {
          Vec<T> entry, total;
          load(kernel + (i + k) * width + j, entry);
          load(gamma + (i + k) * width + j, total);
          store<T>(total - entry * totals[k], gamma + (i + k) * width + j);
        }
      }
    pending = 0;
  }

  RLSV_INLINE void remember(const T* down, const T* across) {
    std::copy(down, down + height, left + pending * height);
    std::copy(across, across + width, right + pending * width);
    if (++pending == kBlock) flush();
  }

  // Undoes alpha^k. h is used up, k grows.
  RLSV_INLINE void undo_rows(const T* alpha, const T* beta) {
    aim(alpha, beta);
    multiply(kernel, rows, width, y, h_scaled);
    for (int64_t i = 0; i < height; ++i) {
      const T mass = x[i] * h_scaled[i];
      by_row[i] += h[i] * inverse_a[i];
      h_scaled[i] = mass > T(0) ? x[i] * (h[i] / mass) : T(0);
    }
    std::fill(k_scaled, k_scaled + width, T(0));
    for (int64_t i = 0; i < rows; i += kGroup)
      add_group(kernel + i * width, width, h_scaled + i, k_scaled);
    for (int64_t j = 0; j < width; ++j) k[j] -= y[j] * k_scaled[j];
    remember(h_scaled, y);
  }

  // Undoes beta^k. k is used up, h made anew.
  RLSV_INLINE void undo_columns(const T* alpha, const T* beta) {
    aim(alpha, beta);
    std::fill(k_scaled, k_scaled + width, T(0));
    for (int64_t i = 0; i < rows; i += kGroup)
      add_group(kernel + i * width, width, x + i, k_scaled);
    for (int64_t j = 0; j < width; ++j) {
      const T mass = y[j] * k_scaled[j];
      by_column[j] += k[j] * inverse_b[j];
      k_scaled[j] = mass > T(0) ? y[j] * (k[j] / mass) : T(0);
      k[j] = T(0);
    }
    multiply(kernel, rows, width, k_scaled, h);
    for (int64_t i = 0; i < height; ++i) h[i] *= -x[i];
    remember(x, k_scaled);
  }

  RLSV_INLINE void run(const Unrolled<T>& batch, int64_t item) {
    const Problem<T> problem = batch.problem(item);
    const int64_t stride = rows + columns;
    const T* history = batch.potentials + item * (batch.iterations + 1) * stride;
    const T* final_alpha = history + batch.iterations * stride;
    if (history[0] != T(0)) {  // no mass to transport, or no plan
      const T value = std::isnan(history[0]) ? history[0] : T(0);
      std::fill_n(batch.grad_cost + item * rows * columns, rows * columns, value);
      std::fill_n(batch.grad_row + item * rows, rows, value);
      std::fill_n(batch.grad_column + item * columns, columns, value);
      batch.grad_epsilon[item] = value;
      return;
    }
    const T scale = T(-kLog2E / double(problem.epsilon));
    for (T* vector : {h, by_row}) std::fill(vector, vector + height, T(0));
    for (T* vector : {k, by_column}) std::fill(vector, vector + width, T(0));
    std::fill(gamma, gamma + height * width, T(0));
    for (int64_t i = 0; i < rows; ++i) {
      inverse_a[i] = problem.row[i] < std::numeric_limits<T>::min() ? T(0) : T(1) / problem.row[i];
      for (int64_t j = 0; j < columns; ++j)
        scaled[i * width + j] = scale * problem.cost[i * columns + j];
      std::fill(scaled + i * width + columns, scaled + (i + 1) * width, -Limits<T>::kFar);
    }
    for (int64_t j = 0; j < columns; ++j)
      inverse_b[j] =
          problem.column[j] < std::numeric_limits<T>::min() ? T(0) : T(1) / problem.column[j];
    rebuild(final_alpha, final_alpha + rows);
    for (int64_t i = 0; i < rows; ++i) {
      T total = 0;
      for (int64_t j = 0; j < columns; ++j) {
        const T flow = kernel[i * width + j] * problem.cost[i * columns + j];
        gamma[i * width + j] = flow;
        total += flow;
        k[j] += flow;
      }
      h[i] = total;
    }
    for (int64_t step = batch.iterations; step > 0; --step) {
      const T *alpha = history + step * stride, *before = alpha - stride, *beta = alpha + rows;
      undo_rows(alpha, beta);
      undo_columns(before, beta);
    }
    flush();
    if (batch.iterations > 0) rebuild(final_alpha, final_alpha + rows);

    const T upstream = batch.grad[item], epsilon = problem.epsilon;
    double by_epsilon = 0;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = i * columns;
      T total = 0;
      for (int64_t j = 0; j < columns; ++j) {
        const T change = gamma[i * width + j] / epsilon;
        batch.grad_cost[item * rows * columns + at + j] =
            upstream * (kernel[i * width + j] - change);
        total += change * problem.cost[at + j];
      }
      by_epsilon += double(total);
      batch.grad_row[item * rows + i] = upstream * by_row[i];
    }
    for (int64_t j = 0; j < columns; ++j)
      batch.grad_column[item * columns + j] = upstream * by_column[j];
    batch.grad_epsilon[item] = upstream * T(by_epsilon / double(epsilon));
  }
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
