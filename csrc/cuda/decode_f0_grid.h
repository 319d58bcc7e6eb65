// How decode_f0 is spread over a GPU; see grid.h.
#pragma once

#include "grid.h"

namespace rlsv_fast::cuda {

// A block takes 32 neighbouring frames of a voice, a lane each, and shares out their bins among
// warps: a mixture has too few frames to fill a GPU with a thread each.
constexpr int64_t kDecodeFrames = 32, kDecodeParts = 16;

inline int64_t decode_f0_tiles(int64_t frames) { return divide_up(frames, kDecodeFrames); }
inline Grid decode_f0_grid(int64_t planes, int64_t frames) {
  return {std::min(planes * decode_f0_tiles(frames), kMaxBlocks), kDecodeFrames * kDecodeParts};
}

}  // namespace rlsv_fast::cuda
