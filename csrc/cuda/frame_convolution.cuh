// What the kernels of frame_convolution share: their coefficients in shared memory, their sums in
// registers.
#pragma once

#include "../frame_convolution_rules.h"
#include "../turns.h"
#include "frame_convolution_grid.h"
#include "lanes.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr int kThreads = int(kTransformThreads), kSums = int(kTransformSums);
constexpr int kStep = int(kTransformStep);
constexpr int kLoads = 4;  // in flight before the first is used

struct Transform {
  Coefficients of;
  int64_t first, rows;
  Windows shape;
  Spans spans;  // of a synthesis
  TransformGrid plan;

  // The term of a row, or the row of a term, of a unit matrix.
  __device__ __forceinline__ int64_t mirrored(int64_t place) const {
    return of.side == kReversedWeights ? of.terms - 1 - place : place;
  }
};

// What a block does next: threads beyond the last unit are idle.
struct Piece {
  int64_t group, unit;
  bool busy;

  __device__ __forceinline__ Piece(const TransformGrid& plan, int64_t piece)
      : group(piece % plan.groups),
        unit(piece / plan.groups * kThreads + threadIdx.x),
        busy(unit < plan.units) {}
};

// The coefficients of a block's group and stage in shared memory: (inputs, share).
template <bool kSynthesis, typename T>
class Matrix {
 public:
  __device__ __forceinline__ explicit Matrix(const TransformGrid& plan)
      : table_(shared_memory<double>()), values_(reinterpret_cast<T*>(table_ + 2 * plan.table)) {
    for (int turn = threadIdx.x; turn < int(plan.table); turn += kThreads)
      root(turn, plan.table, table_[2 * turn], table_[2 * turn + 1]);
  }

  // Those of inputs [begin, begin + count), made where the block does not have them.
  __device__ __forceinline__ const T* take(const Transform& in, int64_t group, int64_t begin,
                                           int count) {
    if (group != group_ || begin != begin_) {
      const int share = int(in.plan.share);
      __syncthreads();
      for (int i = threadIdx.x; i < count * share; i += kThreads)
        values_[i] = make(in, group * share + i % share, begin + i / share);
      __syncthreads();
      group_ = group;
      begin_ = begin;
    }
    return values_;
  }

  // The memory behind.
  __device__ __forceinline__ T* rest(const TransformGrid& plan) const {
    return values_ + plan.stage * plan.share;
  }

 private:
  __device__ static __forceinline__ void root(int64_t turn, int64_t points, double& cosine,
                                              double& sine) {
    double turns = double(turn) / double(points);
    reduce_turns<double>(turns);
    cosine = cosine_turns(turns);
    sine = sine_turns(turns);
  }

  // A synthesis has the rows of every window that reaches a span, the first window first.
  __device__ __forceinline__ T make(const Transform& in, int64_t output, int64_t input) const {
    const int64_t back = kSynthesis ? in.spans.depth - 1 - input / in.rows : 0;
    const int64_t row = in.first + (kSynthesis ? input % in.rows : output);
    const int64_t column = kSynthesis ? output + back * in.spans.length : input;
    if (column >= in.of.terms) return T(0);
    const Term<double> term = coefficient<double>(in.of, row, column);
    if (in.of.points == 0) return T(term.cosine);
    double cosine, sine;
    if (in.plan.table > 0) {
      cosine = table_[2 * term.turn];
      sine = table_[2 * term.turn + 1];
    } else {
      root(term.turn, in.of.points, cosine, sine);
    }
    return T(term.cosine * cosine + term.sine * sine);
  }

  double* table_;  // cosine and sine of every point
  T* values_;
  int64_t group_ = -1, begin_ = -1;
};

// The sums of a thread.
template <int kWidth, typename T>
struct Sums {
  Lanes<kWidth, T> of[kSums];

  __device__ __forceinline__ Sums() {
#pragma unroll
    for (int u = 0; u < kSums; ++u) of[u] = no_lanes<kWidth, T>();
  }

  // Adds one input to each, times its coefficient of `share`.
  __device__ __forceinline__ void add(const T* coefficients, int share,
                                      const Lanes<kWidth, T>& input) {
    constexpr int kLanes = Pack<T>::kLanes;
#pragma unroll
    for (int step = 0; step < kSums; step += kStep) {
      if (step >= share) continue;
#pragma unroll
      for (int u = step; u < step + kStep; u += kLanes) {
        const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(coefficients + u);
#pragma unroll
        for (int i = 0; i < kLanes; ++i)
#pragma unroll
          for (int lane = 0; lane < kWidth; ++lane)
            of[u + i].lane[lane] += pack.lane[i] * input.lane[lane];
      }
    }
  }
  __device__ __forceinline__ void add(int u, const Lanes<kWidth, T>& input) {
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) of[u].lane[lane] += input.lane[lane];
  }
};

}  // namespace
}  // namespace rlsv_fast::cuda
