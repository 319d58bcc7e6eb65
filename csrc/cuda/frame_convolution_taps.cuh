// The kernels of frame_convolution for taps innermost, (items, taps, 1): a unit is an item, and its
// numbers are neighbours in memory. Blocks read and write them together through shared memory,
// where items lie `apart` numbers apart.
#pragma once

#include "frame_convolution.cuh"

namespace rlsv_fast::cuda {
namespace {

template <bool kUnit, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    analyse_taps(const T* __restrict__ signal, Transform in, T* __restrict__ spectrum) {
  const int share = int(in.plan.share), apart = int(in.plan.staged);
  const int64_t terms = in.shape.terms;
  Matrix<false, T> matrix(in.plan);
  T* taps = matrix.rest(in.plan);
  for (int64_t i = blockIdx.x; i < in.plan.pieces; i += gridDim.x) {
    const Piece piece(in.plan, i);
    const int64_t item = piece.unit - threadIdx.x, left = in.plan.units - item;
    const int items = left < kThreads ? int(left) : kThreads;
    // The terms that the group's rows need: all, or those that they are.
    int64_t begin = 0, end = terms;
    if (kUnit) {
      const int64_t least = in.first + piece.group * share;
      const int64_t one = in.mirrored(least), other = in.mirrored(least + share - 1);
      begin = max(one < other ? one : other, int64_t(0));
      end = min((one < other ? other : one) + 1, terms);
    }
    Sums<1, T> sums;
    for (const int64_t stage = kUnit ? share : in.plan.stage; begin < end; begin += stage) {
      const int count = int(min(end - begin, stage));
      const T* coefficients = kUnit ? nullptr : matrix.take(in, piece.group, begin, count);
      __syncthreads();
      for (int n = threadIdx.x; n < items * count; n += kThreads)
        taps[n / count * apart + n % count] =
            signal[(item + n / count) * terms + begin + n % count];
      __syncthreads();
      const T* mine = taps + int(threadIdx.x) * apart;
      if (kUnit) {
#pragma unroll
        for (int u = 0; u < kSums; ++u) {
          const int64_t k = in.mirrored(in.first + piece.group * share + u) - begin;
          if (piece.busy && u < share && k >= 0 && k < count) sums.of[u].lane[0] = mine[k];
        }
      } else {
        for (int n = 0; piece.busy && n < count; ++n)
          sums.add(coefficients + n * share, share, Lanes<1, T>{mine[n]});
      }
    }
#pragma unroll
    for (int u = 0; u < kSums; ++u) {
      const int64_t row = piece.group * share + u;
      if (piece.busy && u < share && row < in.rows)
        spectrum[row * in.plan.units + piece.unit] = sums.of[u].lane[0];
    }
  }
}

template <bool kUnit, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    synthesise_taps(const T* __restrict__ spectrum, const T* __restrict__ addend, Transform in,
                    T* __restrict__ result) {
  const int share = int(in.plan.share), apart = int(in.plan.staged);
  const int64_t terms = in.shape.terms;
  Matrix<true, T> matrix(in.plan);
  T* taps = matrix.rest(in.plan);
  for (int64_t i = blockIdx.x; i < in.plan.pieces; i += gridDim.x) {
    const Piece piece(in.plan, i);
    const T* from = spectrum + piece.unit;
    Sums<1, T> sums;
    if (kUnit) {
#pragma unroll
      for (int u = 0; u < kSums; ++u) {
        const int64_t k = piece.group * share + u, row = in.mirrored(k) - in.first;
        if (piece.busy && u < share && k < terms && row >= 0 && row < in.rows)
          sums.of[u].lane[0] = from[row * in.plan.units];
      }
    } else {
      for (int64_t begin = 0; begin < in.plan.inputs; begin += in.plan.stage) {
        const int count = int(min(in.plan.inputs - begin, in.plan.stage));
        const T* coefficients = matrix.take(in, piece.group, begin, count);
        if (!piece.busy) continue;
        for (int n = 0; n < count; n += kLoads) {
          Lanes<1, T> inputs[kLoads];
#pragma unroll
          for (int j = 0; j < kLoads; ++j)
            inputs[j].lane[0] = n + j < count ? from[(begin + n + j) * in.plan.units] : T(0);
#pragma unroll
          for (int j = 0; j < kLoads; ++j)
            if (n + j < count) sums.add(coefficients + (n + j) * share, share, inputs[j]);
        }
      }
    }
    const int64_t item = piece.unit - threadIdx.x, left = in.plan.units - item;
    const int items = left < kThreads ? int(left) : kThreads;
    const int64_t tap = piece.group * share;
    const int count = int(min(terms - tap, int64_t(share)));
    __syncthreads();
#pragma unroll
    for (int u = 0; u < kSums; ++u)
      if (u < share) taps[int(threadIdx.x) * apart + u] = sums.of[u].lane[0];
    __syncthreads();
    for (int n = threadIdx.x; n < items * count; n += kThreads) {
      const int64_t at = (item + n / count) * terms + tap + n % count;
      const T value = taps[n / count * apart + n % count];
      result[at] = addend ? value + addend[at] : value;
    }
  }
}

}  // namespace
}  // namespace rlsv_fast::cuda
