// What every pair of frames costs, t < t': a distance, or a share of two gradients. Sums are made
// in chains of at most kChain terms, which then join a running sum.
#if defined(RLSV_FRAME_DISTANCE_PAIRS_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_FRAME_DISTANCE_PAIRS_H)
#undef RLSV_FRAME_DISTANCE_PAIRS_H
#else
#define RLSV_FRAME_DISTANCE_PAIRS_H
#endif

#include "frame_distance_slabs.h"

namespace rlsv_fast::RLSV_PASS {

constexpr int64_t kChain = 64;
// A tile of distances, whose sums fit the registers of every instruction set.
constexpr int64_t kTileRows = RLSV_VECTOR_BYTES == 64 ? 4 : 2, kTileColumns = kBeside;
// Frames whose gradients are held in registers together; it divides kChain.
constexpr int64_t kGroup = 8;

template <int64_t P, typename T>
RLSV_INLINE void add_distance(const Vec<T>& difference, Vec<T>& total) {
  if constexpr (P == 1) {
    Vec<T> magnitude;
    absolute<T>(difference, magnitude);
    total += magnitude;
  } else {
    total += difference * difference;
  }
}

// M of frames [row, row + kTileRows) and [column, column + kTileColumns), both halves, from frames
// in `slabs` slabs. Those past the last are dropped.
template <int64_t P, typename T>
RLSV_INLINE void distance_tile(const T* values, int64_t slabs, int64_t frames, int64_t row,
                               int64_t column, T* distance) {
  constexpr int64_t kPairs = kTileRows * kTileColumns, kSums = std::min(kPairs, kLanes<T>);
  const T *left = values + place<T>(row, 0, slabs), *right = values + place<T>(column, 0, slabs);
  T total[kPairs] = {}, sums[kPairs];
  for (int64_t begin = 0; begin < slabs; begin += kChain) {
    const int64_t end = std::min(begin + kChain, slabs);
    Vec<T> part[kPairs] = {};
    for (int64_t at = begin * kBeside * kLanes<T>; at < end * kBeside * kLanes<T>;
         at += kBeside * kLanes<T>) {
      Vec<T> own, other[kTileColumns];
#pragma GCC unroll 4
      for (int64_t k = 0; k < kTileColumns; ++k) load(right + at + k * kLanes<T>, other[k]);
#pragma GCC unroll 4
      for (int64_t r = 0; r < kTileRows; ++r) {
        load(left + at + r * kLanes<T>, own);
#pragma GCC unroll 4
        for (int64_t k = 0; k < kTileColumns; ++k)
          add_distance<P, T>(own - other[k], part[r * kTileColumns + k]);
      }
    }
    for (int64_t pair = 0; pair < kPairs; pair += kSums)
      sum_each<T, kSums>(reinterpret_cast<Vec<T>(&)[kSums]>(part[pair]), sums + pair);
    for (int64_t pair = 0; pair < kPairs; ++pair) total[pair] += sums[pair];
  }
  if (P == 2)
    for (int64_t pair = 0; pair < kPairs; ++pair) total[pair] = std::sqrt(total[pair]);
  const auto write = [&](int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < columns; ++k)
        distance[(row + r) * frames + column + k] = total[r * kTileColumns + k];
    for (int64_t k = 0; k < columns; ++k)
      for (int64_t r = 0; r < rows; ++r)
        distance[(column + k) * frames + row + r] = total[r * kTileColumns + k];
  };
  if (row + kTileRows <= frames && column + kTileColumns <= frames)
    return write(kTileRows, kTileColumns);
  write(std::min(kTileRows, frames - row), std::min(kTileColumns, frames - column));
}

// kTileColumns columns of the upper half of M, and as many rows of the lower half.
template <int64_t P, typename T>
RLSV_INLINE void distance_columns(const T* values, int64_t slabs, int64_t frames, int64_t column,
                                  T* distance) {
  for (int64_t row = 0; row < std::min(column + kTileColumns, frames); row += kTileRows)
    distance_tile<P>(values, slabs, frames, row, column, distance);
}

// The weights w[t', t] = S[t, t'] (p = 1; over kSignUnit) or S / M (p = 2) of kLanes frames t' from
// `row` with all t < t'. Row t' begins at t' * padded; what is past the last frame stays zero.
template <typename T>
RLSV_INLINE void weight_rows(const T* grad, const T* distance, int64_t p, int64_t frames,
                             int64_t padded, int64_t row, T* weights) {
  const T share = p == 1 && kSignUnit<T> != 0 ? 1 / kSignUnit<T> : 1;
  for (int64_t column = 0; column <= row; column += kLanes<T>) {
    Vec<T> across[kLanes<T>] = {};
    for (int64_t i = 0; i < kLanes<T> && column + i < frames; ++i)
      load_part(grad + (column + i) * frames + row, frames - row, across[i]);
    transpose<T>(across);
    for (int64_t i = 0; i < kLanes<T> && row + i < frames; ++i) {
      const int64_t at = (row + i) * frames + column;
      Vec<T> both, length;
      load_part(grad + at, frames - column, both);
      load_part(distance + at, frames - column, length);
      both = (both + across[i]) * share;
      if (p == 2) {
        both /= length;
      } else if (kSignUnit<T> == 2) {
        both = length == length ? both : both * T(0);  // sign() makes a direction of any NaN
      }
      both = length == T(0) ? Vec<T>{} : both;
      store(both, weights + (row + i) * padded + column);
    }
  }
}

// One pair's share of two gradients: weight * sign(own - other), or weight * (own - other).
template <int64_t P, typename T>
RLSV_INLINE void add_gradient(const Vec<T>& own, const Vec<T>& other, T weight, Vec<T>& rise,
                              Vec<T>& fall) {
  if constexpr (P == 2) {
    const Vec<T> share = weight * (own - other);
    rise += share;
    fall -= share;
  } else if constexpr (kSignUnit<T> != 0) {
    Vec<T> direction;
    sign<T>(own - other, direction);
    rise += weight * direction;
    fall -= weight * direction;
  } else {
    const Vec<T> all = Vec<T>{} + weight;
    const Vec<T> share = (own > other ? all : Vec<T>{}) - (own < other ? all : Vec<T>{});
    rise += share;
    fall -= share;
  }
}

// Pairs of the frames [first, first + kGroup): among themselves if `own_block`, and with [begin,
// end) of the block of frames from `block`, whose sums are in `fall`. Past the last frame, weights
// are 0.
template <int64_t P, typename T>
RLSV_INLINE void gradient_group(const T* values, const T* weights, int64_t padded, int64_t first,
                                bool own_block, int64_t block, int64_t begin, int64_t end, T* fall,
                                T* gradient) {
  Vec<T> own[kGroup], rise[kGroup] = {};
#pragma GCC unroll 8
  for (int64_t r = 0; r < kGroup; ++r) load(values + (first + r) * kLanes<T>, own[r]);
  if (own_block) {
#pragma GCC unroll 8
    for (int64_t k = 1; k < kGroup; ++k)
#pragma GCC unroll 8
      for (int64_t r = 0; r < k; ++r)
        add_gradient<P, T>(own[r], own[k], weights[(first + k) * padded + first + r], rise[r],
                           rise[k]);
  }
  for (int64_t t = begin; t < end; ++t) {
    const T* weight = weights + t * padded + first;
    Vec<T> other, sums;
    load(values + t * kLanes<T>, other);
    load(fall + (t - block) * kLanes<T>, sums);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kGroup; ++r)
      add_gradient<P, T>(own[r], other, weight[r], rise[r], sums);
    store(sums, fall + (t - block) * kLanes<T>);
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kGroup; ++r) {
    Vec<T> sums;
    load(gradient + (first + r) * kLanes<T>, sums);
    store<T>(sums + rise[r], gradient + (first + r) * kLanes<T>);
  }
}

// da of one slab, padded to whole groups of frames as `values` are.
template <int64_t P, typename T>
RLSV_INLINE void gradient_slab(const T* values, const T* weights, int64_t frames, int64_t padded,
                               T* gradient) {
  alignas(64) T fall[kChain * kLanes<T>];
  std::fill(gradient, gradient + padded * kLanes<T>, T(0));
  for (int64_t rows = 0; rows < frames; rows += kChain)
    for (int64_t block = rows; block < frames; block += kChain) {
      const int64_t end = std::min(block + kChain, frames);
      std::fill(fall, fall + (end - block) * kLanes<T>, T(0));
      for (int64_t first = rows; first < std::min(rows + kChain, frames); first += kGroup) {
        const bool own_block = rows == block;
        gradient_group<P>(values, weights, padded, first, own_block, block,
                          own_block ? first + kGroup : block, end, fall, gradient);
      }
      for (int64_t i = 0; i < (end - block) * kLanes<T>; ++i)
        gradient[block * kLanes<T> + i] += fall[i];
    }
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
