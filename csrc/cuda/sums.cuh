// Sums over long rows in two stages (see Chunks in grid.h): each block sums a chunk, and the
// partial sums of a row, in double, are added in a fixed order by whoever needs the total.
#pragma once

#include <cfloat>
#include <cmath>

#include "../turns.h"
#include "lanes.cuh"
#include "reduce.cuh"

namespace rlsv_fast::cuda {

// A sum with its rounding errors kept apart, about as exact as one in double but without a double:
// a float keeps what each addition and product lost. A double needs no such help.
template <typename T>
class Accumulator {
 public:
  __device__ __forceinline__ void add(T term) {
    const T sum = high_ + term, added = sum - high_;
    low_ += (high_ - (sum - added)) + (term - added);
    high_ = sum;
  }
  __device__ __forceinline__ void add_product(T first, T second) {
    const T product = rounded_product(first, second);
    add(product);
    low_ += std::fma(first, second, -product);
  }
  // In the type asked for. What an infinite sum lost is no number and does not count.
  template <typename Total>
  __device__ __forceinline__ Total total() const {
    const Total sum = Total(high_) + Total(low_);
    return sum == sum ? sum : Total(high_);
  }

 private:
  T high_ = T(0), low_ = T(0);
};
template <>
class Accumulator<double> {
 public:
  __device__ __forceinline__ void add(double term) { sum_ += term; }
  __device__ __forceinline__ void add_product(double first, double second) {
    sum_ = std::fma(first, second, sum_);
  }
  template <typename Total>
  __device__ __forceinline__ Total total() const {
    return sum_;
  }

 private:
  double sum_ = 0.0;
};

// kTile numbers of a row across a block: a thread's share is loaded before any of it is used.
template <int kWidth, typename T>
class Tile {
 public:
  static constexpr int kShare = kTile / kSumThreads;  // numbers per thread

  // The first `count` numbers from `from`, zeros after them.
  __device__ __forceinline__ void load(const T* from, int64_t count) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i)
      pack_[i] = place(i) < count ? load_lanes<kWidth>(from + place(i)) : no_lanes<kWidth, T>();
  }
  __device__ __forceinline__ void store(T* to, int64_t count) const {
#pragma unroll
    for (int i = 0; i < kPacks; ++i)
      if (place(i) < count) store_lanes(pack_[i], to + place(i));
  }
  __device__ __forceinline__ T& operator[](int i) { return pack_[i / kWidth].lane[i % kWidth]; }

 private:
  static constexpr int kPacks = kShare / kWidth;
  __device__ __forceinline__ static int place(int i) {
    return (i * int(kSumThreads) + int(threadIdx.x)) * kWidth;
  }

  Lanes<kWidth, T> pack_[kPacks];
};

// Where chunk `index` begins, and how long it is.
struct Chunk {
  int64_t row, begin, length;

  __device__ __forceinline__ Chunk(const Chunks& chunks, int64_t index)
      : row(index / chunks.count),
        begin(row * chunks.length + (index - row * chunks.count) * chunks.size),
        length(chunks.length - (index - row * chunks.count) * chunks.size) {
    if (length > chunks.size) length = chunks.size;
  }
};

// Calls body(y, x) for the thread's share of a chunk of two signals; `before` is called when the
// first loads are on their way.
template <int kWidth, typename T, typename Before, typename Body>
__device__ __forceinline__ void visit_pairs(const T* estimate, const T* target, const Chunk& chunk,
                                            const Before& before, const Body& body) {
  for (int64_t at = 0; at < chunk.length; at += kTile) {
    Tile<kWidth, T> y, x;
    y.load(estimate + chunk.begin + at, chunk.length - at);
    x.load(target + chunk.begin + at, chunk.length - at);
    if (at == 0) before();
#pragma unroll
    for (int i = 0; i < y.kShare; ++i) body(y[i], x[i]);
  }
}

// Adds `mine` over the block; `scratch` holds a double per warp. Every thread must call it.
__device__ __forceinline__ double block_sum(double mine, double* scratch) {
  return block_reduce<kSumThreads>(mine, scratch);
}

// The total of `count` partial sums, `stride` apart. Every thread of the block must call it and
// gets the result.
__device__ __forceinline__ double add_partials(const double* partials, int64_t count, int stride,
                                               double* scratch) {
  double mine = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) mine += partials[i * stride];
  return block_sum(mine, scratch);
}

// The nearest T that is finite, unless `value` is not a number: factors of samples that are zero
// must not make them NaN.
template <typename T>
__device__ __forceinline__ T finite(double value);
template <>
__device__ __forceinline__ double finite<double>(double value) {
  return value;
}
template <>
__device__ __forceinline__ float finite<float>(double value) {
  return float(value > FLT_MAX ? double(FLT_MAX) : value < -FLT_MAX ? -double(FLT_MAX) : value);
}

}  // namespace rlsv_fast::cuda
