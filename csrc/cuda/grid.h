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

}  // namespace rlsv_fast::cuda
