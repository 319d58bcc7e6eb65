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

}  // namespace rlsv_fast::cuda
