// How kernels are spread over a GPU: blocks, threads, shared memory, and which path is taken.
// Plain C++ without CUDA, so that unit tests drive it through _host on any machine.
#pragma once

#include <algorithm>
#include <cstdint>

namespace rlsv_fast::cuda {

// What the launchers want to know of a GPU.
struct Device {
  int64_t processors;  // streaming multiprocessors
  int64_t shared;      // bytes of shared memory that one block may ask for
};

struct Grid {
  int64_t blocks, threads, shared = 0;  // shared: bytes per block, asked for at the launch
};

constexpr int64_t kMaxBlocks = (int64_t(1) << 31) - 1;  // of grid.x; y and z, at 65535, stay 1

inline int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }
inline int64_t round_up(int64_t count, int64_t to) { return divide_up(count, to) * to; }

// Blocks for `count` pieces of work of which a block takes one after the other: `waves` blocks per
// processor keep it busy, more would only be started later.
inline int64_t spread(const Device& device, int64_t count, int64_t waves) {
  return std::min({count, device.processors * waves, kMaxBlocks});
}

// Sinkhorn, backward: one block per problem.

constexpr int64_t kSinkhornThreads = 512;
// Columns that a block sums at once, through one partial sum per warp and column.
constexpr int64_t kSinkhornTile = 128;
constexpr int64_t kSinkhornWarps = kSinkhornThreads / 32;
constexpr int64_t kWorkspace = int64_t(256) << 20;  // bytes that slots may take, unless one is more

// Where a block keeps the matrix that it multiplies with, and its vectors.
enum class Residence { kMatrix, kVectors, kNothing };  // what is in shared memory

// The innermost residence that fits: `vectors` and `matrix` in bytes, `always` what every one
// needs.
inline Residence choose_residence(const Device& device, int64_t always, int64_t vectors,
                                  int64_t matrix) {
  if (always + vectors + matrix <= device.shared) return Residence::kMatrix;
  return always + vectors <= device.shared ? Residence::kVectors : Residence::kNothing;
}

// Blocks that own a workspace of `bytes` each: within the budget, but at least one.
inline int64_t slots(const Device& device, int64_t items, int64_t bytes) {
  if (bytes == 0) return std::min(items, kMaxBlocks);
  return std::min(spread(device, items, 2), std::max<int64_t>(kWorkspace / bytes, 1));
}

// The implicit gradient: conjugate gradients for every problem, then elimination, one slot each,
// for the problems on which they fail.
struct SinkhornGradientGrid {
  Residence residence;
  Grid descent, elimination;
  int64_t descent_workspace, elimination_workspace;  // numbers of type double per block

  // One after the other: both kernels use the same memory.
  int64_t workspace() const {
    return std::max(descent.blocks * descent_workspace, elimination.blocks * elimination_workspace);
  }
};

inline SinkhornGradientGrid sinkhorn_gradient_grid(const Device& device, int64_t items,
                                                   int64_t rows, int64_t columns, int64_t bytes) {
  const int64_t number = sizeof(double), vectors = 3 * rows + 6 * columns;
  const int64_t partial = (kSinkhornTile + 1) * kSinkhornWarps * number;
  const int64_t matrix = rows * round_up(columns * bytes, 16);
  SinkhornGradientGrid grid{};
  grid.residence = choose_residence(device, partial, vectors * number, matrix);
  grid.descent_workspace = grid.residence == Residence::kNothing ? vectors : 0;
  grid.elimination_workspace = vectors + columns * columns;
  const int64_t shared = partial + (grid.residence == Residence::kNothing ? 0 : vectors * number) +
                         (grid.residence == Residence::kMatrix ? matrix : 0);
  grid.descent = {slots(device, items, grid.descent_workspace * number), kSinkhornThreads, shared};
  grid.elimination = {slots(device, items, grid.elimination_workspace * number), kSinkhornThreads,
                      partial};
  return grid;
}

// The way back through the iterations, its matrix and vectors in shared memory or in a workspace.
struct SinkhornReverseGrid {
  Grid grid;
  bool resident;      // in shared memory
  int64_t workspace;  // numbers per block, 0 where resident
};

constexpr int64_t kSinkhornPanel = 32;   // half-steps whose part of the gradient is made at once
constexpr int64_t kSinkhornVectors = 5;  // per side

// Rows of the panel, padded to the groups of four in which they are read.
constexpr int64_t sinkhorn_height(int64_t rows) { return (rows + 3) / 4 * 4; }

inline SinkhornReverseGrid sinkhorn_reverse_grid(const Device& device, int64_t items, int64_t rows,
                                                 int64_t columns, int64_t bytes) {
  const int64_t numbers = round_up(
      rows * columns + (kSinkhornPanel + kSinkhornVectors) * (sinkhorn_height(rows) + columns), 4);
  const int64_t sums = kSinkhornWarps * (sizeof(double) + kSinkhornTile * bytes);
  if (sums + numbers * bytes <= device.shared)
    return {{std::min(items, kMaxBlocks), kSinkhornThreads, sums + numbers * bytes}, true, 0};
  return {{slots(device, items, numbers * bytes), kSinkhornThreads, sums}, false, numbers};
}

// Sinkhorn, forward: one block per problem. The matrix and the vectors of a problem lie in shared
// memory where they fit, else in a workspace of the block.

// `bytes` is the size of a number. Columns that a warp sums at once, as its registers allow:
constexpr int64_t sinkhorn_panel(int64_t bytes) { return bytes == 4 ? 256 : 192; }

// Warps of a block: those that hide the latency of shared memory, or fewer with more registers.
constexpr int64_t sinkhorn_warps(int64_t bytes, bool resident) {
  return bytes == 4 && resident ? 16 : 8;
}

// Rows of a matrix are padded to whole packs of 16 bytes.
inline int64_t sinkhorn_stride(int64_t columns, int64_t bytes) {
  return round_up(columns, 16 / bytes);
}

struct SinkhornGrid {
  Grid grid;
  bool resident;      // in shared memory
  int64_t workspace;  // numbers per block, 0 where resident
};

// A matrix (rows, stride) with `row_vectors` and `column_vectors` for each block, beside the sums
// of the warps: a number each, and a panel each.
inline SinkhornGrid sinkhorn_grid(const Device& device, int64_t items, int64_t rows,
                                  int64_t columns, int64_t row_vectors, int64_t column_vectors,
                                  int64_t bytes) {
  const int64_t stride = sinkhorn_stride(columns, bytes);
  const int64_t storage =
      rows * stride + row_vectors * sinkhorn_stride(rows, bytes) + column_vectors * stride;
  const auto grid = [&](bool resident) {
    const int64_t warps = sinkhorn_warps(bytes, resident);
    const int64_t sums = warps * (8 + std::min(stride, sinkhorn_panel(bytes)) * bytes);
    return resident ? Grid{std::min(items, kMaxBlocks), 32 * warps, sums + storage * bytes}
                    : Grid{slots(device, items, storage * bytes), 32 * warps, sums};
  };
  if (stride <= sinkhorn_panel(bytes) && grid(true).shared <= device.shared)
    return {grid(true), true, 0};
  return {grid(false), false, storage};
}

}  // namespace rlsv_fast::cuda
