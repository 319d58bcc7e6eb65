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

constexpr int64_t kUnasked = 48 * 1024;  // bytes of shared memory that every block may have
constexpr int64_t kMaxBlocks = (int64_t(1) << 31) - 1;  // of grid.x; y and z, at 65535, stay 1

inline int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }
inline int64_t round_up(int64_t count, int64_t to) { return divide_up(count, to) * to; }

// Blocks for `count` pieces of work of which a block takes one after the other: `waves` blocks per
// processor keep it busy, more would only be started later.
inline int64_t spread(const Device& device, int64_t count, int64_t waves) {
  return std::min({count, device.processors * waves, kMaxBlocks});
}

// Sums over rows of `length` numbers, in two stages: chunks first, at most kMostChunks per row,
// then their partial sums. Chunks depend on the shape alone, and so do the bits of the sums.

constexpr int64_t kTile = 2048, kMostChunks = 1024;  // kTile: numbers that a block holds at once

struct Chunks {
  int64_t rows, length, size, count, total;  // `count` chunks of `size` numbers per row
};

inline Chunks cut_rows(int64_t rows, int64_t length) {
  const int64_t size = kTile * std::max<int64_t>(divide_up(length, kTile * kMostChunks), 1);
  const int64_t count = divide_up(length, size);
  return {rows, length, size, count, rows * count};
}

// The same rows a tile at a time, for what is done to every number.
inline Chunks tile_rows(int64_t rows, int64_t length) {
  const int64_t count = divide_up(length, kTile);
  return {rows, length, kTile, count, rows * count};
}

constexpr int64_t kSumThreads = 256;  // eight numbers of a tile per thread

// A block for every one of `count` chunks, tiles or rows.
inline Grid sums_grid(int64_t count) { return {std::min(count, kMaxBlocks), kSumThreads}; }

// modulated_cosines

constexpr int64_t kCosineThreads = 128;
constexpr int64_t kCosineTaps = 1024;  // of one row, what a block of the forward pass writes

// Fine pieces of rows, so that all processors end together: 12 per processor at C = 800, L = 2048
// on an H200.
inline Grid modulated_cosines_forward_grid(int64_t components, int64_t taps) {
  return {std::min(components * divide_up(taps, kCosineTaps), kMaxBlocks), kCosineThreads};
}

// A row per block: small blocks, so that 800 of them are resident on 132 processors at once.
inline Grid modulated_cosines_backward_grid(int64_t components) {
  return {std::min(components, kMaxBlocks), kCosineThreads};
}

// A shared modulator's gradient is a sum over rows: chunks of rows first, then the chunks.
inline int64_t modulated_cosines_chunk(int64_t components) {
  return std::max<int64_t>(divide_up(components, 256), 16);
}
inline int64_t modulated_cosines_chunks(int64_t components) {
  return divide_up(components, modulated_cosines_chunk(components));
}
inline Grid modulated_cosines_partial_grid(int64_t components, int64_t taps, int64_t lanes) {
  const int64_t pieces = divide_up(taps, kCosineThreads * lanes);
  return {std::min(modulated_cosines_chunks(components) * pieces, kMaxBlocks), kCosineThreads};
}
inline Grid modulated_cosines_total_grid(int64_t taps) {
  return {std::min(divide_up(taps, kCosineThreads), kMaxBlocks), kCosineThreads};
}

// frame_distance

// Rows of the normalised representation and of the weights are padded to whole quads of numbers.
inline int64_t frame_distance_stride(int64_t frames) { return round_up(frames, 4); }

// Pairs of blocks of `tile` frames on or above the diagonal, over the whole batch.
inline int64_t frame_distance_tiles(int64_t batch, int64_t frames, int64_t tile) {
  const int64_t across = divide_up(frames, tile);
  return batch * (across * (across + 1) / 2);
}

// Large tiles load half as much per term; small ones where large ones would leave the busiest
// processor with more than a quarter more to do.
constexpr int64_t kLargeTile = 64, kSmallTile = 32;
inline int64_t frame_distance_tile(const Device& device, int64_t batch, int64_t frames) {
  const auto busiest = [&](int64_t tile) {
    return divide_up(frame_distance_tiles(batch, frames, tile), device.processors) * tile * tile;
  };
  return 4 * busiest(kLargeTile) <= 5 * busiest(kSmallTile) ? kLargeTile : kSmallTile;
}

// frames and overlap_add

constexpr int64_t kFrameThreads = 256, kFrameTaps = 2048;  // of one frame, what a block writes
constexpr int64_t kOverlapThreads = 128;

// No more threads than a short frame has work for; a frame of more than one pack per thread gets
// all of them.
inline Grid frames_grid(int64_t rows, int64_t taps, int64_t lanes) {
  const int64_t busy = round_up(divide_up(taps, lanes), 32);
  return {std::min(rows * divide_up(taps, kFrameTaps), kMaxBlocks), std::min(busy, kFrameThreads)};
}

// Whether frames start, and samples lie, at multiples of `lanes`; pointers and lengths are
// checked apart.
inline bool frames_align(int64_t lanes, int64_t hop, int64_t offset) {
  return hop % lanes == 0 && offset % lanes == 0;
}

// Positions of outputs count from tap 0 of frame 0. Threads start at a multiple of `lanes`, where
// frames are aligned, whatever the offset.
inline int64_t overlap_start(int64_t offset, int64_t lanes) {
  return offset - (offset % lanes + lanes) % lanes;
}
// Blocks per item.
inline int64_t overlap_blocks(int64_t length, int64_t offset, int64_t lanes) {
  return divide_up(offset - overlap_start(offset, lanes) + length, kOverlapThreads * lanes);
}
inline Grid overlap_grid(int64_t batch, int64_t length, int64_t offset, int64_t lanes) {
  return {std::min(batch * overlap_blocks(length, offset, lanes), kMaxBlocks), kOverlapThreads};
}

// total_variation

constexpr int64_t kVariationThreads = 256;
// A warp takes a piece of an item: 32 frames of 8 components, a frame per lane.
constexpr int64_t kPieceFrames = 32, kPieceComponents = 8;

struct VariationShape {
  int64_t batch, components, frames;
  int64_t tiles, pieces;  // of an item: pieces side by side, pieces altogether
  int64_t share, blocks;  // pieces of a block, blocks of an item in the first stage of the sums
  int64_t partials;       // batch * blocks
};

inline VariationShape variation_shape(int64_t batch, int64_t components, int64_t frames) {
  constexpr int64_t kWarps = kVariationThreads / 32;
  const int64_t tiles = divide_up(frames, kPieceFrames);
  const int64_t pieces = tiles * divide_up(components, kPieceComponents);
  const int64_t share = kWarps * std::max<int64_t>(divide_up(pieces, kWarps * kMostChunks), 1);
  const int64_t blocks = divide_up(pieces, share);
  return {batch, components, frames, tiles, pieces, share, blocks, batch * blocks};
}

inline Grid variation_sums_grid(const VariationShape& shape) {
  return {std::min(shape.partials, kMaxBlocks), kVariationThreads};
}
inline Grid variation_backward_grid(const VariationShape& shape) {
  const int64_t blocks = divide_up(shape.batch * shape.pieces, kVariationThreads / 32);
  return {std::min(blocks, kMaxBlocks), kVariationThreads};
}

// Sinkhorn: one block per problem.

// Bytes that the workspaces of all blocks may take together, unless one takes more.
constexpr int64_t kWorkspace = int64_t(256) << 20;

// Blocks that own a workspace of `bytes` each: within the budget, but at least one.
inline int64_t slots(const Device& device, int64_t items, int64_t bytes) {
  if (bytes == 0) return std::min(items, kMaxBlocks);
  return std::min(spread(device, items, 2), std::max<int64_t>(kWorkspace / bytes, 1));
}

// The iterations, forward and back. The matrix and the vectors of a problem lie in shared memory
// where they fit, else in a workspace of the block.

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

// The implicit gradient.

constexpr int64_t kSinkhornThreads = 512;
// Columns that a block sums at once, through one partial sum per warp and column.
constexpr int64_t kSinkhornTile = 128;
constexpr int64_t kSinkhornWarps = kSinkhornThreads / 32;

// Where a block keeps the matrix that it multiplies with, and its vectors.
enum class Residence { kMatrix, kVectors, kNothing };  // what is in shared memory

// The innermost residence that fits: `vectors` and `matrix` in bytes, `always` what every one
// needs.
inline Residence choose_residence(const Device& device, int64_t always, int64_t vectors,
                                  int64_t matrix) {
  if (always + vectors + matrix <= device.shared) return Residence::kMatrix;
  return always + vectors <= device.shared ? Residence::kVectors : Residence::kNothing;
}

// Conjugate gradients for every problem, then elimination, one slot each, for the problems on which
// they fail.
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

// The way back through the iterations, laid out as the way forward: half-steps whose part of the
// gradient is made at once, and vectors, on either side.
constexpr int64_t kSinkhornSlots = 32, kSinkhornVectors = 3;

inline SinkhornGrid sinkhorn_reverse_grid(const Device& device, int64_t items, int64_t rows,
                                          int64_t columns, int64_t bytes) {
  constexpr int64_t kVectors = kSinkhornSlots + kSinkhornVectors;
  return sinkhorn_grid(device, items, rows, columns, kVectors, kVectors, bytes);
}

}  // namespace rlsv_fast::cuda
