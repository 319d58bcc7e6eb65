// Symmetric problems, M = M' and a = b, so f = g: with K_ij = exp(-M_ij / eps),
//   x = sqrt(a / K 1);   repeat  t = K x,  x <- x^(1-w) (a / t)^w,  w = 1, 1/2, 2/3, 1, ...
// Where the diagonal is the row minimum, K is positive semidefinite in practice, and this contracts
// by 0.016 in three iterations for any eps. Scalings span at most a factor N, because K_ii = 1; a
// diagonal M_ii other than zero is moved into the potentials first. Of M the upper half is used.
//
// The derivative of <P, M>, P_ij = x_i K_ij x_j, needs one solve more, z below (formulas:
// sinkhorn_gradient.cpp), made while K is at hand:
//   (diag(r) + P) z = w,   r = P 1,  w = (P o M) 1,
//   d<P, M> / dM_ij = P_ij (1 + (z_i + z_j - M_ij) / eps),   d / da = d / db = z.
#if defined(RLSV_SINKHORN_SYMMETRIC_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_SYMMETRIC_H)
#undef RLSV_SINKHORN_SYMMETRIC_H
#else
#define RLSV_SINKHORN_SYMMETRIC_H
#endif

#include "sinkhorn_definite.h"
#include "sinkhorn_triangle.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T>
struct Symmetric {
  int64_t size, width;
  Arena<T> arena;
  Triangle<T> kernel;
  T *a, *x, *half;  // half = M_ii log2(e) / (2 eps), moved into the potentials
  T *mass, *w;      // x o (K x), the sums r of P; w
  Definite<T> system;

  explicit Symmetric(int64_t size)
      : size(size),
        width(Triangle<T>::padded(size)),
        arena(Triangle<T>::numbers(size) + (5 + Definite<T>::kVectors) * width),
        kernel{size, width / kLanes<T>, arena.take(Triangle<T>::numbers(size))} {
    for (T** slice : {&a, &x, &half, &mass, &w}) *slice = arena.take(width);
    system = Definite<T>(arena, width);
  }

  // Builds the kernel and the first x. False where the path does not apply.
  RLSV_INLINE bool start(const Problem<T>& problem) {
    const T scale = T(kLog2E / double(problem.epsilon));
    for (int64_t i = 0; i < size; ++i) half[i] = T(0.5) * scale * problem.cost[i * size + i];
    std::copy(problem.row, problem.row + size, a);
    Vec<T> poison = {}, top = {};  // NaN where a cost is not finite; the greatest exponent
    kernel.fill([&](int64_t i, int64_t j, Vec<T>& entry) {
      Vec<T> offset;
      load_cost(problem, i, j, Limits<T>::kFar, entry);
      load(half + j, offset);
      poison += entry * T(0);
      entry = offset + half[i] - entry * scale;
      greater<T>(entry, top, top);
      exp2_uncapped<T>(entry, Limits<T>::kLowest, entry);
    });
    for (int64_t i = kLanes<T>; i < size; ++i)  // the other half only has to be finite
      for (int64_t j = 0; j < i / kLanes<T> * kLanes<T>; j += kLanes<T>) {
        Vec<T> cost;
        load(problem.cost + i * size + j, cost);
        poison += cost * T(0);
      }
    if (sum<T>(poison) != T(0) || highest<T>(top) > T(1)) return false;
    std::fill(x, x + size, T(1));
    kernel.multiply(x, mass);
    for (int64_t i = 0; i < width; i += kLanes<T>) {
      Vec<T> want, total;
      load(a + i, want);
      load(mass + i, total);
      power(want, total, T(0.5), want);
      store<T>(want, x + i);
    }
    if (problem.initial) warm(problem);
    return true;
  }

  // mass = x o (K x); returns sum |mass - a|, the error of the plan of x.
  RLSV_INLINE double measure() {
    kernel.multiply(x, mass);
    Vec<T> total = {};
    for (int64_t i = 0; i < width; i += kLanes<T>) {
      Vec<T> row, scaling, want, gap;
      load(mass + i, row);
      load(x + i, scaling);
      load(a + i, want);
      row = row * scaling;
      store<T>(row, mass + i);
      absolute<T>(row - want, gap);
      total += gap;
    }
    return double(sum<T>(total));
  }

  RLSV_INLINE void update(int64_t step) {
    const T weights[3] = {T(1), T(1) / 2, T(2) / 3};
    for (int64_t i = 0; i < width; i += kLanes<T>) {
      Vec<T> row, scaling, want, change;
      load(mass + i, row);
      load(x + i, scaling);
      load(a + i, want);
      power(want, row, weights[step % 3], change);
      store<T>(scaling * change, x + i);
    }
  }

  // f = eps (log x + half), in units of the cost.
  RLSV_INLINE void write_potentials(T to_cost, T* f) const {
    for (int64_t i = 0; i < width; i += kLanes<T>) {
      Vec<T> scaling, potential;
      load(x + i, scaling);
      load(half + i, potential);
      log2<T>(scaling, scaling);
      store_cut<T>((potential + scaling) * to_cost, size - i, f + i);
    }
  }

  // w = (P o M) 1; returns <P, M>.
  RLSV_INLINE T measure_cost(const Problem<T>& problem) {
    kernel.multiply(x, w, [&](int64_t i, int64_t j, Vec<T>& entry) {
      Vec<T> cost;
      load_cost(problem, i, j, T(0), cost);
      entry *= cost;
    });
    double total = 0;
    for (int64_t i = 0; i < size; ++i) {
      w[i] *= x[i];
      total += double(w[i]);
    }
    return T(total);
  }

  RLSV_INLINE void write_plan(T* plan) const {
    kernel.write(plan, [&](int64_t i, int64_t j, Vec<T>& entry) {
      Vec<T> across;
      load(x + j, across);
      entry *= across * x[i];
    });
  }

  // After measure() and measure_cost(): the derivatives of <P, M>; returns that to eps.
  RLSV_INLINE T write_gradient(const Problem<T>& problem, T* grad_cost, T* grad_row) {
    const T rate = T(1) / problem.epsilon;
    T* z = system.solve(mass, w, [&](const T* ahead, T* scaled, T* image) {
      for (int64_t i = 0; i < width; i += kLanes<T>) product(x + i, ahead + i, scaled + i);
      kernel.multiply(scaled, image);
      for (int64_t i = 0; i < width; i += kLanes<T>) product(x + i, image + i, image + i);
    });
    Vec<T> within = {}, right = {};  // sum (dL/dM_ij - P_ij) M_ij: in diagonal blocks, and above
    kernel.write(grad_cost, [&](int64_t i, int64_t j, Vec<T>& entry) {
      Vec<T> across, other, cost, flow;
      load(x + j, across);
      load(z + j, other);
      load_cost(problem, i, j, T(0), cost);
      entry *= across * x[i];
      flow = entry * ((other + z[i] - cost) * rate);
      entry += flow;
      (i / kLanes<T> == j / kLanes<T> ? within : right) += flow * cost;
    });
    std::copy(z, z + size, grad_row);
    return -(sum<T>(within) + T(2) * sum<T>(right)) * rate;
  }

 private:
  // (want / have)^w, 0 where nothing is wanted.
  RLSV_INLINE static void power(const Vec<T>& want, const Vec<T>& have, T w, Vec<T>& result) {
    Vec<T> logarithm;
    log2<T>(want / have, logarithm);
    exp2<T>(logarithm * w, Limits<T>::kLowest, logarithm);
    result = want > T(0) ? logarithm : Vec<T>{};
  }

  // At the solution a_i / (N sqrt(max a)) <= x_i <= sqrt(a_i): what is given is brought there, so
  // that no start is worse than the edge of this range. -inf says nothing, NaN goes on.
  RLSV_INLINE void warm(const Problem<T>& problem) {
    const T scale = T(kLog2E / double(problem.epsilon));
    const T least = T(1) / (T(size) * std::sqrt(*std::max_element(a, a + size)));
    for (int64_t i = 0; i < size; ++i) {
      const T given = problem.initial[i];
      if (given == -std::numeric_limits<T>::infinity()) continue;
      const T near = std::exp2(given * scale - half[i]);
      x[i] = std::isnan(near) ? near : std::clamp(near, a[i] * least, std::sqrt(a[i]));
    }
  }

  // M_ij and those to its right; `rest` in the padding, also below the last row.
  RLSV_INLINE void load_cost(const Problem<T>& problem, int64_t i, int64_t j, T rest,
                             Vec<T>& cost) const {
    if (j + kLanes<T> <= size) return load(problem.cost + i * size + j, cost);
    if (i < size)
      return load_padded(problem.cost + i * size + j, size - j, rest, cost,
                         room_after<T>(i, size, size));
    cost = Vec<T>{} + rest;
  }

  RLSV_INLINE static void product(const T* first, const T* second, T* result) {
    Vec<T> left, right;
    load(first, left);
    load(second, right);
    store<T>(left * right, result);
  }
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
