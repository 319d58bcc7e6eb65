// How harmonic_bank is spread over a GPU: as grid.h, in a file of its own.
#pragma once

#include "grid.h"

namespace rlsv_fast::cuda {

constexpr int64_t kBankThreads = 128;   // samples, or harmonics, that a block takes at once
constexpr int64_t kPieceThreads = 256;  // of the block that goes through the pieces of an item

inline Grid bank_sample_grid(int64_t samples) {
  return {std::min(divide_up(samples, kBankThreads), kMaxBlocks), kBankThreads};
}
// A warp for every piece, of which each frame has two.
inline Grid bank_piece_grid(int64_t pieces) {
  return {std::min(divide_up(pieces, kBankThreads / 32), kMaxBlocks), kBankThreads};
}
// A block for every frame.
inline Grid bank_frame_grid(int64_t frames) { return {std::min(frames, kMaxBlocks), kBankThreads}; }
// A block for every item.
inline Grid bank_item_grid(int64_t items) { return {std::min(items, kMaxBlocks), kPieceThreads}; }

}  // namespace rlsv_fast::cuda
