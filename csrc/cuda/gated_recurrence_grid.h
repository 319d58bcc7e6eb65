// How gated_recurrence is spread over a GPU; see grid.h.
#pragma once

#include "grid.h"

namespace rlsv_fast::cuda {

// Every frame is a launch. Items of a tile read each weight once. Forward a warp takes a unit's
// three rows of weights; backward a lane takes a column, and warps share out its rows.
constexpr int64_t kGateItems = 8, kGateUnits = 8, kGateColumns = 32, kGateParts = 16;

inline int64_t gate_tiles(int64_t items) { return divide_up(items, kGateItems); }
inline Grid gated_recurrence_forward_grid(int64_t items, int64_t size) {
  return {std::min(gate_tiles(items) * divide_up(size, kGateUnits), kMaxBlocks), kGateUnits * 32};
}
inline Grid gated_recurrence_backward_grid(int64_t items, int64_t size) {
  return {std::min(gate_tiles(items) * divide_up(size, kGateColumns), kMaxBlocks),
          kGateColumns * kGateParts};
}

}  // namespace rlsv_fast::cuda
