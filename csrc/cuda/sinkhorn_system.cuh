// The linear system behind the implicit derivative of a plan P (sinkhorn_gradient.cu), solved by
// one block:
//   [diag(r) P; P' diag(c)] [p; q] = [wr; wc],   wr = (P o H) 1,  wc = (P o H)' 1.
//
// Symmetric plans (f = g): (diag(r) + P) z = (wr + wc) / 2 by conjugate gradients in T, p = q = z;
// the condition is <= 2. Others: conjugate gradients on the Schur complement diag(c) - P' diag(1/r)
// P in double, its null space (constants) projected out. Plans that fall into nearly separate
// blocks have no usable condition number; these are solved by elimination
// (sinkhorn_elimination.cuh). Weights of zero have p or q = 0. Why each step is as it is:
// cpu/sinkhorn_system.h.
//
// P stays in T, in shared memory where it fits; W is the type of the vectors. Functions end with a
// barrier wherever they leave something that other threads read.
#pragma once

#include "sinkhorn_elimination.cuh"
#include "sinkhorn_sums.cuh"

namespace rlsv_fast::cuda {

// One item's slice of the batch.
template <typename T>
struct SinkhornItem {
  const T *upstream, *cost, *plan;  // upstream = H
  T epsilon;
  bool distance;  // H = M, and dL/dM has P as a part of its own
};

// What counts as solved: the square root of the energy's fall.
template <typename T>
struct Enough;
template <>
struct Enough<float> {
  static constexpr float kSymmetric = 1.1920929e-7f;
  static constexpr double kGeneral = 1e-12;
};
template <>
struct Enough<double> {
  static constexpr double kSymmetric = 2.220446049250313e-16, kGeneral = 1e-14;
};

// The greater of two numbers; the first where the second is NaN.
struct Largest {
  template <typename W>
  __device__ __forceinline__ W operator()(W first, W second) const {
    return second > first ? second : first;
  }
};

template <typename T, typename W, Residence kResidence>
struct SinkhornSystem {
  int rows, columns, stride;
  const T* plan;  // unpadded, where it is not in shared memory
  W* vectors;

  // `workspace` holds the vectors where shared memory does not. Sizes: grid.h.
  __device__ __forceinline__ SinkhornSystem(int rows, int columns, double* workspace)
      : rows(rows), columns(columns), stride(columns), plan(nullptr) {
    double* next = workspace;
    if constexpr (kResidence != Residence::kNothing) next = slots() + kWarps;
    if constexpr (kResidence == Residence::kMatrix) {
      stride = (columns + Pack<T>::kLanes - 1) / Pack<T>::kLanes * Pack<T>::kLanes;
      next += int64_t(rows) * stride * int(sizeof(T)) / int(sizeof(double));
    }
    vectors = reinterpret_cast<W*>(next);
  }

  // Sums of warps, and the plan (rows, stride) behind them: all in shared memory.
  __device__ __forceinline__ static W* partial() { return shared_memory<W>(); }
  __device__ __forceinline__ static double* slots() {
    return shared_memory<double>() + kWarps * kSinkhornTile;
  }
  __device__ __forceinline__ static T* resident() { return reinterpret_cast<T*>(slots() + kWarps); }

  // Pointers to all vectors would take too many registers.
  __device__ __forceinline__ W* r() const { return vectors; }
  __device__ __forceinline__ W* wr() const { return vectors + rows; }
  __device__ __forceinline__ W* p() const { return vectors + 2 * rows; }
  __device__ __forceinline__ W* column_vector(int which) const {
    return vectors + 3 * rows + which * columns;
  }
  __device__ __forceinline__ W* c() const { return column_vector(0); }
  __device__ __forceinline__ W* wc() const { return column_vector(1); }
  __device__ __forceinline__ W* q() const { return column_vector(2); }
  __device__ __forceinline__ W* residual() const { return column_vector(3); }
  __device__ __forceinline__ W* ahead() const { return column_vector(4); }
  __device__ __forceinline__ W* image() const { return column_vector(5); }

  // Row i of the plan.
  __device__ __forceinline__ const T* row(int i) const {
    return (kResidence == Residence::kMatrix ? resident() : plan) + int64_t(i) * stride;
  }
  __device__ __forceinline__ W entry(int i, int j) const { return W(row(i)[j]); }

  // finish(i, (P y)_i)
  template <typename Finish>
  __device__ __forceinline__ void multiply(const W* y, Finish finish) {
    sum_rows<W, 1>(
        rows, columns, [&](int i, int j, W(&sums)[1]) { sums[0] += entry(i, j) * y[j]; },
        [&](int i, const W(&sums)[1]) { finish(i, sums[0]); });
  }

  // finish(j, (P' y)_j)
  template <typename Finish>
  __device__ __forceinline__ void multiply_transposed(const W* y, Finish finish) {
    sum_columns<W>(
        rows, columns, partial(), [&](int i, int j) { return entry(i, j) * y[i]; }, finish);
  }

  template <typename Combine = Sum>
  __device__ __forceinline__ W reduce(W value, Combine combine = {}) const {
    return block_reduce<kThreads>(value, reinterpret_cast<W*>(slots()), combine);
  }

  // Takes a plan; its column sums only where they differ from the row sums or are asked for.
  __device__ __forceinline__ void read(const SinkhornItem<T>& item, bool with_columns) {
    plan = item.plan;
    sum_rows<W, 2>(
        rows, columns,
        [&](int i, int j, W(&sums)[2]) {
          const T value = plan[int64_t(i) * columns + j];
          if constexpr (kResidence == Residence::kMatrix)
            resident()[int64_t(i) * stride + j] = value;
          sums[0] += W(value);
          sums[1] += W(value) * W(item.upstream[int64_t(i) * columns + j]);
        },
        [&](int i, const W(&sums)[2]) {
          r()[i] = sums[0];
          wr()[i] = sums[1];
          if (!with_columns) wc()[i] = sums[1];
        });
    if (!with_columns) return;
    sum_columns<W>(
        rows, columns, partial(), [&](int i, int j) { return entry(i, j); },
        [&](int j, W total) { c()[j] = total; });
    sum_columns<W>(
        rows, columns, partial(),
        [&](int i, int j) { return entry(i, j) * W(item.upstream[int64_t(i) * columns + j]); },
        [&](int j, W total) { wc()[j] = total; });
  }

  // p = q = z with (diag(r) + P) z = (wr + wc) / 2, preconditioned by diag(r).
  __device__ __forceinline__ void solve_symmetric() {
    constexpr int kSteps = 64;
    W most = 0;
    each(columns, [&](int i) {
      residual()[i] = (wr()[i] + wc()[i]) / 2;
      q()[i] = W(0);
      most = Largest{}(most, std::abs(residual()[i]));
    });
    const W unit = reduce(most, Largest{});
    if (unit > W(0)) {
      W energy = 0, first = 0, step = 0;
      each(columns, [&](int i) { residual()[i] /= unit; });
      for (int count = 0; count <= kSteps; ++count) {
        W total = 0;
        each(columns, [&](int i) {
          if (count > 0) {  // the step along the last direction
            residual()[i] -= image()[i] * step;
            q()[i] += ahead()[i] * step;
          }
          total += r()[i] > W(0) ? residual()[i] * (residual()[i] / r()[i]) : W(0);
        });
        const W last = energy;
        energy = reduce(total);
        if (count == 0) first = energy;
        constexpr W kEnough = Enough<W>::kSymmetric;
        if (!(energy > kEnough * kEnough * first) || count == kSteps) break;
        const W keep = count == 0 ? W(0) : energy / last;
        each(columns, [&](int i) {
          ahead()[i] = (r()[i] > W(0) ? residual()[i] / r()[i] : W(0)) +
                       (count == 0 ? W(0) : keep * ahead()[i]);
        });
        __syncthreads();
        W curvature = 0;
        multiply(ahead(), [&](int i, W product) {
          const W moved = product + r()[i] * ahead()[i];
          image()[i] = moved;
          curvature += moved * ahead()[i];
        });
        step = energy / reduce(curvature);
      }
      each(columns, [&](int i) { q()[i] *= unit; });
    }
    each(columns, [&](int i) { p()[i] = q()[i]; });
    __syncthreads();
  }

  // Takes from the residual the part that no solution can reach: its sum is zero in exact terms.
  __device__ __forceinline__ void project(W mass) {
    W total = 0;
    each(columns, [&](int j) { total += residual()[j]; });
    total = reduce(total);
    const W share = mass > W(0) ? total / mass : W(0);
    each(columns, [&](int j) { residual()[j] -= share * c()[j]; });
  }

  __device__ __forceinline__ W preconditioned_energy() {
    W total = 0;
    each(columns,
         [&](int j) { total += c()[j] > W(0) ? residual()[j] * (residual()[j] / c()[j]) : W(0); });
    return reduce(total);
  }

  // Conjugate gradients for the columns' part; false where they do not converge.
  __device__ __forceinline__ bool descend(W mass) {
    constexpr W kEnough = Enough<T>::kGeneral;
    const int steps = columns + 20 < 300 ? columns + 20 : 300;
    project(mass);
    const W first = preconditioned_energy();
    W energy = first, keep = 0;
    for (int count = 0; count < steps && energy > kEnough * kEnough * first; ++count) {
      each(columns, [&](int j) {
        ahead()[j] = (c()[j] > W(0) ? residual()[j] / c()[j] : W(0)) +
                     (count > 0 ? keep * ahead()[j] : W(0));
      });
      __syncthreads();
      W curvature = 0;
      sweep_rows<W>(
          rows, columns, ahead(), p(), partial(), [&](int i, int j) { return entry(i, j); },
          [&](int i, W product) { return r()[i] > W(0) ? -product / r()[i] : W(0); },
          [&](int j, W product) {
            const W moved = c()[j] * ahead()[j] + product;
            image()[j] = moved;
            curvature += moved * ahead()[j];
          });
      curvature = reduce(curvature);
      if (!(curvature > W(0))) return false;
      const W step = energy / curvature;
      each(columns, [&](int j) {
        q()[j] += step * ahead()[j];
        residual()[j] -= step * image()[j];
      });
      project(mass);
      const W last = energy;
      energy = preconditioned_energy();
      keep = energy / last;
    }
    return energy <= kEnough * kEnough * first;
  }

  // residual = wc - P' (wr / r), made of differences term by term.
  __device__ __forceinline__ void find_residual(const SinkhornItem<T>& item, W unit) {
    each(rows, [&](int i) { p()[i] = r()[i] > W(0) ? wr()[i] / r()[i] : W(0); });
    __syncthreads();
    sum_columns<W>(
        rows, columns, partial(),
        [&](int i, int j) {
          return entry(i, j) * (W(item.upstream[int64_t(i) * columns + j]) - p()[i]);
        },
        [&](int j, W total) { residual()[j] = total / unit; });
  }

  // Solves for p and q; `graph` is null unless the problem is to be eliminated. False where
  // conjugate gradients do not converge.
  __device__ __forceinline__ bool solve_general(const SinkhornItem<T>& item, W* graph) {
    W most = 0, mass = 0;
    each(rows, [&](int i) { most = Largest{}(most, std::abs(wr()[i])); });
    each(columns, [&](int j) {
      most = Largest{}(most, std::abs(wc()[j]));
      mass += c()[j];
      q()[j] = c()[j] * W(0);  // NaN where there is no plan
    });
    const W unit = reduce(most, Largest{});
    mass = reduce(mass);
    if (unit > W(0)) {
      if (graph) {
        eliminate(*this, item.upstream, unit, graph);
      } else {
        find_residual(item, unit);
        if (!descend(mass)) return false;
      }
      W level = 0;
      each(columns, [&](int j) { level += c()[j] * q()[j]; });
      level = reduce(level);
      level = mass > W(0) ? level / mass : W(0);
      each(columns, [&](int j) { q()[j] = c()[j] == W(0) ? W(0) : (q()[j] - level) * unit; });
      __syncthreads();
    }
    multiply(q(), [&](int i, W product) {
      p()[i] = r()[i] == W(0) ? W(0) : (wr()[i] - product) / r()[i];
    });
    return true;
  }
};

}  // namespace rlsv_fast::cuda
