// What the way back through Sinkhorn iterations (sinkhorn_reverse.cu) keeps: the reference K with
// its potentials, and the half-steps that are not yet in Gamma. Potentials near the reference are
// scalings x, y of it: P^(alpha, beta) = diag(x) K diag(y). A half-step subtracts K o (left' right)
// from Gamma, the rows of many of them at once.
#pragma once

#include "../exponential.h"
#include "../sinkhorn_rules.h"
#include "sinkhorn_reverse.h"
#include "sinkhorn_sums.cuh"

namespace rlsv_fast::cuda {

template <typename T, int kWarps, bool kResident>
struct HalfSteps {
  static constexpr int kThreads = kWarps * int(kWarp), kSlots = int(kSinkhornSlots);

  Matrix<T, kResident> kernel;
  int height;         // rows, padded
  double* sums;       // one per warp, in shared memory, and a panel per warp behind them
  T *lefts, *rights;  // (slots, height), (slots, stride): the factors of Gamma's half-steps
  const T* cost;
  T* gamma;
  T scale;         // of the cost, to exponents of two
  int filled = 0;  // slots that are not yet in Gamma
  int latest = 0;  // slot of x(alpha^s) and of k' of step s + 1

  // Pointers to all of them would take too many registers. Slots of columns are padded with zeros.
  __device__ __forceinline__ T* scratch() const { return reinterpret_cast<T*>(sums + kWarps); }
  __device__ __forceinline__ T* left(int slot) const { return lefts + slot * height; }
  __device__ __forceinline__ T* right(int slot) const { return rights + slot * kernel.stride; }
  __device__ __forceinline__ T* h() const { return left(kSlots); }
  __device__ __forceinline__ T* reference_row() const { return left(kSlots + 1); }
  __device__ __forceinline__ T* by_row() const { return left(kSlots + 2); }
  __device__ __forceinline__ T* k() const { return right(kSlots); }
  __device__ __forceinline__ T* reference_column() const { return right(kSlots + 1); }
  __device__ __forceinline__ T* by_column() const { return right(kSlots + 2); }

  // `workspace` is used where shared memory does not hold everything. Sizes: grid.h.
  __device__ __forceinline__ HalfSteps(int rows, int columns, T* workspace) {
    constexpr int kPad = Panel<T>::kLanes;
    const int stride = (columns + kPad - 1) / kPad * kPad, pad = stride - columns;
    height = (rows + kPad - 1) / kPad * kPad;
    sums = shared_memory<double>();
    kernel = {kResident ? scratch() + kWarps * stride : workspace, rows, columns, stride};
    rights = kernel.row(rows);
    lefts = rights + int64_t(kSlots + int(kSinkhornVectors)) * stride;
    for (int64_t i = threadIdx.x; i < int64_t(rows) * pad; i += kThreads)
      kernel.row(int(i / pad))[columns + i % pad] = T(0);
    each<kWarps>(kSlots * pad, [&](int i) { right(i / pad)[columns + i % pad] = T(0); });
    __syncthreads();
  }

  // K = P^(reference); what is not yet in Gamma refers to the one before.
  __device__ __forceinline__ void rebuild(const T* alpha, const T* beta) {
    each<kWarps>(kernel.rows, [&](int i) { reference_row()[i] = alpha[i]; });
    each<kWarps>(kernel.columns, [&](int j) { reference_column()[j] = beta[j]; });
    __syncthreads();
    for (int i = warp_index(); i < kernel.rows; i += kWarps)
#pragma unroll 2
      for (int j = lane_index(); j < kernel.columns; j += int(kWarp))
        kernel.row(i)[j] = power_of_two(scale * cost[int64_t(i) * kernel.columns + j] +
                                            reference_column()[j] + reference_row()[i],
                                        Limits<T>::kLowest);
    __syncthreads();
  }

  // result = 2^(potential - reference), 0 for -inf. False where one is out of reach.
  __device__ __forceinline__ bool scalings(const T* potential, const T* reference, int count,
                                           T* result) {
    bool near = true;
    each<kWarps>(count, [&](int i) {
      const T to = potential[i], change = to > -T(INFINITY) ? to - reference[i] : T(0);
      near = near && std::abs(change) <= Limits<T>::kReach;
      result[i] = to > -T(INFINITY) ? power_of_two(change, -Limits<T>::kReach - T(1)) : T(0);
    });
    return near;
  }

  // Makes x in the left slot and y in the right one, so that P^(alpha, beta) = diag(x) K diag(y).
  // Whether all of them are within reach; every thread gets the answer.
  __device__ __forceinline__ bool aim(const T* alpha, const T* beta, int left_slot,
                                      int right_slot) {
    const bool near = scalings(alpha, reference_row(), kernel.rows, left(left_slot));
    return __syncthreads_and(
        scalings(beta, reference_column(), kernel.columns, right(right_slot)) && near);
  }

  // Gamma -= K o (left' right) over the filled slots. A warp takes four rows, a lane two columns:
  // per half-step two loads and one of four numbers at once for eight products.
  __device__ __forceinline__ void flush() {
    if (filled == 0) return;
    __syncthreads();
    const int rows = kernel.rows, columns = kernel.columns, lane = lane_index();
    each_group<kWarps>(rows, [&](int first) {
      for (int j = lane; j < columns; j += 2 * int(kWarp)) {
        const int at[2] = {j, j + int(kWarp) < columns ? j + int(kWarp) : j};
        T totals[2][kGroup] = {};
#pragma unroll 2
        for (int slot = 0; slot < filled; ++slot) {
          const T across[2] = {right(slot)[at[0]], right(slot)[at[1]]};
          const auto* down = reinterpret_cast<const Pack<T>*>(left(slot) + first);
#pragma unroll
          for (int row = 0; row < kGroup; ++row)
#pragma unroll
            for (int side = 0; side < 2; ++side)
              totals[side][row] +=
                  across[side] * down[row / Pack<T>::kLanes].lane[row % Pack<T>::kLanes];
        }
#pragma unroll
        for (int row = 0; row < kGroup; ++row)
#pragma unroll
          for (int side = 0; side < 2; ++side)
            if (first + row < rows && j + side * int(kWarp) < columns)
              gamma[int64_t(first + row) * columns + at[side]] -=
                  kernel.row(first + row)[at[side]] * totals[side][row];
      }
    });
    filled = 0;
    __syncthreads();
  }
};

}  // namespace rlsv_fast::cuda
