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

}  // namespace rlsv_fast::cuda
