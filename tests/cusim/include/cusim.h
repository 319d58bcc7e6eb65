// What the CUDA names of cuda_runtime.h stand on: barriers, warp meetings, launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

namespace cusim {

using Place = std::source_location;

// Ends the process: what happened, where in the kernel, in which block and thread.
[[noreturn]] void fail(const char* what, const Place& where, const Place* others = nullptr);

// Block barriers. Every thread that has not exited must come to the same one.

struct Votes {
  int any, all, count;
};
Votes block_barrier(bool vote, const Place& where);

// Warp operations. Every lane of `mask` that has not exited must come to the same one.

enum class WarpOp { kSync, kShuffle, kShuffleXor, kShuffleUp, kShuffleDown, kBallot };

struct Meeting {
  unsigned came;        // lanes that took part
  uint64_t values[32];  // what each of them brought
};
Meeting warp_meeting(unsigned mask, uint64_t value, WarpOp op, const Place& where);

unsigned ballot(unsigned mask, bool vote, const Place& where);
// The lane from which `lane` reads, within its segment of `width` lanes.
int source_lane(int lane, int argument, int width, WarpOp op, const Place& where);
int current_lane();

template <typename T>
T shuffle(unsigned mask, T value, int argument, int width, WarpOp op, const Place& where) {
  static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(value));
  const int source = source_lane(current_lane(), argument, width, op, where);
  const Meeting meeting = warp_meeting(mask, bits, op, where);
  if ((meeting.came >> source & 1) == 0)
    fail("a shuffle reads from a lane that has exited or is outside the mask", where);
  memcpy(&value, &meeting.values[source], sizeof(value));
  return value;
}

// Launches.

struct Extent {
  unsigned blocks, blocks_y, blocks_z, threads, threads_y, threads_z;
};
int64_t processors();                   // CUSIM_PROCESSORS, or those of an H200
int64_t most_shared();                  // CUSIM_SHARED, or the bytes that a block may ask for there
unsigned most_blocks(unsigned blocks);  // CUSIM_BLOCKS, or as many as asked for
bool allow_shared(const void* kernel, int64_t bytes);
void check_launch(const Extent& extent, size_t shared, const void* kernel, const char* name);
void run_grid(unsigned blocks, unsigned threads, size_t shared, const std::function<void()>& body);

}  // namespace cusim
