// How all_pole and lsf_to_lpc are spread over a GPU; see grid.h.
#pragma once

#include "grid.h"

namespace rlsv_fast::cuda {

// A block of the filters is a warp, a thread a frame: a thousand frames reach 32 processors.
constexpr int64_t kPoleFrames = 32;

inline Grid all_pole_filter_grid(int64_t rows) {
  return {std::min(divide_up(rows, kPoleFrames), kMaxBlocks), kPoleFrames};
}

// Poles that a kernel is compiled for: the fewest that suffice.
inline int64_t all_pole_order(int64_t order) {
  for (const int64_t most : {10, 20, 32})
    if (order <= most) return most;
  return 64;
}

constexpr int64_t kFadeThreads = 128;  // an output each

inline int64_t all_pole_blocks(int64_t samples) { return divide_up(samples, kFadeThreads); }
inline Grid all_pole_sum_grid(int64_t batch, int64_t samples) {
  return {std::min(batch * all_pole_blocks(samples), kMaxBlocks), kFadeThreads};
}

constexpr int64_t kLagThreads = 128;  // of a frame, a warp per lag at a time

inline Grid all_pole_lag_grid(int64_t rows, int64_t order) {
  return {order == 0 ? 0 : std::min(rows, kMaxBlocks), kLagThreads};
}

// A thread per row; its polynomials, both products or one and what is folded for its quotients, are
// columns of doubles in shared memory.
constexpr int64_t kLsfRows = 32;

inline Grid lsf_to_lpc_grid(int64_t rows, int64_t order) {
  return {std::min(divide_up(rows, kLsfRows), kMaxBlocks), kLsfRows,
          kLsfRows * (order + 2) * int64_t(sizeof(double))};
}

}  // namespace rlsv_fast::cuda
