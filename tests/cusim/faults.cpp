// Kernels that are right, and named ways to break them; test_shim.py says who must notice which.
// Usage: faults NAME, where "none" breaks nothing. Prints "wrong result" and exits with 1 if so.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/kernel.cuh"
#include "cuda/reduce.cuh"

#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"  // the broken array, of course

using namespace rlsv_fast::cuda;

namespace {

std::string chosen;
bool breaks(const char* name) { return chosen == name; }

// Exactly as large as asked for, so that AddressSanitizer guards both ends; NaN, or -1, at first.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : size_(size), values_(new T[size]) {
    memset(static_cast<void*>(values_.get()), 0xff, size * sizeof(T));
  }
  T* get() { return values_.get(); }
  T& operator[](int64_t index) { return values_[index]; }
  int64_t size() const { return size_; }

 private:
  int64_t size_;
  std::unique_ptr<T[]> values_;
};

bool wrong = false;
template <typename T>
void expect(const char* what, T value, T truth) {
  if (value == truth) return;
  printf("wrong result: %s is %g, not %g\n", what, double(value), double(truth));
  wrong = true;
}
void expect_success(cudaError_t error) { expect("error", int(error), int(cudaSuccess)); }

// Row sums: grid-stride rows, a reduction over the block, scratch that is used again.
// sums[r] = sum_i x[r, i],   squares[r] = sum_i x[r, i]^2

struct RowSums {
  const float* x;
  float *sums, *squares, *total;
  int64_t rows, length;
  bool no_barrier_after_write, no_barrier_before_reuse, no_tail_guard, reads_past_the_end,
      every_lane_writes, blocks_add, scratch_too_short, never_written;
};

constexpr int kThreads = 96;

template <int kWarps>
__device__ float sum_over_block(float value, const RowSums& in) {
  __shared__ float scratch[kWarps];
  value = warp_reduce(value);
  if (!in.no_barrier_before_reuse) __syncthreads();
  const bool writes = in.never_written ? threadIdx.x == 0 : threadIdx.x % kWarp == 0;
  if (writes) scratch[threadIdx.x / kWarp] = value;
  if (!in.no_barrier_after_write) __syncthreads();
  float total = scratch[0];
  for (int warp = 1; warp < kThreads / int(kWarp); ++warp) total += scratch[warp];
  return total;
}

__global__ void __launch_bounds__(kThreads) row_sums(RowSums in) {
  for (int64_t row = blockIdx.x; row < in.rows; row += gridDim.x) {
    const float* x = in.x + row * in.length;
    const int64_t end = in.no_tail_guard        ? round_up(in.length, kThreads)
                        : in.reads_past_the_end ? in.length + 1
                                                : in.length;
    float sum = 0, square = 0;
    for (int64_t i = threadIdx.x; i < end; i += kThreads) {
      sum += x[i];
      square += x[i] * x[i];
    }
    sum = in.scratch_too_short ? sum_over_block<kThreads / 32 - 1>(sum, in)
                               : sum_over_block<kThreads / 32>(sum, in);
    square = sum_over_block<kThreads / 32>(square, in);
    if (threadIdx.x == 0 || in.every_lane_writes) in.sums[row] = sum;
    if (threadIdx.x == 0) in.squares[row] = square;
    if (threadIdx.x == 0 && in.blocks_add) *in.total += sum;
  }
}

void test_row_sums() {
  const int64_t rows = 5, length = 173;
  Buffer<float> x(rows * length), sums(rows), squares(rows), total(1);
  total[0] = 0;
  for (int64_t i = 0; i < x.size(); ++i) x[i] = float(i % 7);
  const RowSums in{x.get(),
                   sums.get(),
                   squares.get(),
                   total.get(),
                   rows,
                   length,
                   breaks("no barrier after a write"),
                   breaks("no barrier before reuse"),
                   breaks("no tail guard"),
                   breaks("reads past the end"),
                   breaks("every lane writes"),
                   breaks("blocks add"),
                   breaks("scratch too short"),
                   breaks("shared memory never written")};
  expect_success(launch(row_sums, Grid{2, kThreads}, nullptr, in));  // 2 blocks for 5 rows
  for (int64_t row = 0; row < rows; ++row) {
    float sum = 0, square = 0;
    for (int64_t i = row * length; i < (row + 1) * length; ++i) {
      sum += x[i];
      square += x[i] * x[i];
    }
    expect("a row's sum", sums[row], sum);
    expect("a row's sum of squares", squares[row], square);
  }
}

// Smoothing in shared memory until nothing moves: two rows of dynamic shared memory, a barrier
// that votes, and what that leaves in the others' hands.

struct Smoothing {
  const float* x;
  float* smooth;
  int64_t length;
  bool no_barrier_in_the_loop, breaks_per_thread;
};

__global__ void __launch_bounds__(kThreads) smoothing(Smoothing in) {
  float *now = shared_memory<float>(), *next = now + in.length;
  for (int64_t i = threadIdx.x; i < in.length; i += kThreads) now[i] = in.x[i];
  __syncthreads();
  for (int step = 0; step < 20; ++step) {
    bool moved = false;
    for (int64_t i = threadIdx.x; i < in.length; i += kThreads) {
      next[i] = max(now[i], i == 0 ? now[i] : now[i - 1]);
      moved = moved || next[i] != now[i];
    }
    if (in.breaks_per_thread) {
      if (!moved) break;
      __syncthreads();
    } else if (in.no_barrier_in_the_loop) {
      if (step == 12) break;
    } else if (!__syncthreads_or(moved)) {
      break;
    }
    float* other = now;
    now = next;
    next = other;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < in.length; i += kThreads) in.smooth[i] = now[i];
}

void test_smoothing(int64_t length) {
  Buffer<float> x(length), smooth(length);
  for (int64_t i = 0; i < length; ++i) x[i] = float(i % 10);
  const int64_t bytes = 2 * length * int64_t(sizeof(float));
  const Smoothing in{x.get(), smooth.get(), length, breaks("no barrier in a loop"),
                     breaks("breaks per thread")};
  if (breaks("shared memory not asked for")) {
    cudaLaunchConfig_t config{dim3(1), dim3(kThreads), size_t(50) << 10, nullptr};
    expect_success(cudaLaunchKernelEx(&config, smoothing, in));
  }
  const Grid grid{1, kThreads, bytes - (breaks("shared memory too small") ? 4 : 0)};
  expect_success(launch(smoothing, grid, nullptr, in));
  for (int64_t i = 0; i < length; ++i)
    expect("a smoothed value", smooth[i], float(std::min(i, int64_t(9))));
}

// Warp operations: sub-warps with masks of their own, votes, a partial last warp.

struct WarpWork {
  const int* x;
  int* y;
  bool wrong_mask, full_mask_in_a_branch, assumes_lock_step, reads_an_exited_lane,
      divergent_barrier, barrier_in_a_branch;
};

constexpr int kWarpThreads = 80;  // the last warp has 16 lanes

__global__ void __launch_bounds__(kWarpThreads) warp_work(WarpWork in) {
  __shared__ int scratch[kWarpThreads];
  const unsigned thread = threadIdx.x, lane = thread % kWarp;
  int value = in.x[thread];
  unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  if (in.wrong_mask && lane == 16) mask = 0xfffe0000u;
  if (lane < 16) {
    for (int offset = 8; offset > 0; offset /= 2)
      value += __shfl_xor_sync(in.full_mask_in_a_branch ? kEveryLane : mask, value, offset, 16);
  } else {
    for (int offset = 8; offset > 0; offset /= 2)
      value = max(value, __shfl_down_sync(mask, value, offset, 16));
    value = __shfl_sync(mask, value, 0, 16);
  }
  const unsigned odd = __ballot_sync(kEveryLane, value & 1);
  const int before = __shfl_up_sync(kEveryLane, value, 1);
  value += 1000 * __popc(odd) + (lane == 16 ? 7 * before : 0);
  if (__any_sync(kEveryLane, thread == 40)) value += 100000;
  if (__all_sync(kEveryLane, thread >= 32)) value += 1000000;

  scratch[thread] = value;
  if (!in.assumes_lock_step) __syncwarp();
  value = scratch[thread ^ 1];
  const int count = __syncthreads_count(lane == 3);
  if (__syncthreads_and(value >= 0)) value += 10000000 * count;
  in.y[thread] = value;

  if (in.reads_an_exited_lane) {
    if (lane == 5) return;
    in.y[thread] += __shfl_sync(kEveryLane, value, 5);
  }
  if (in.divergent_barrier) {
    if (thread < 40)
      __syncthreads();
    else
      __syncthreads();
  }
  if (in.barrier_in_a_branch) {
    if (lane < 20) __syncwarp();
    __syncthreads();
  }
}

void test_warp_work() {
  Buffer<int> x(kWarpThreads), y(kWarpThreads);
  for (int i = 0; i < kWarpThreads; ++i) x[i] = i * i % 37;
  const WarpWork in{x.get(),
                    y.get(),
                    breaks("wrong mask"),
                    breaks("full mask in a branch"),
                    breaks("assumes lock-step"),
                    breaks("reads an exited lane"),
                    breaks("divergent barrier"),
                    breaks("warp barrier in a branch")};
  expect_success(launch(warp_work, Grid{1, kWarpThreads}, nullptr, in));
  for (int warp = 0; warp < 3; ++warp) {
    const bool partial = warp == 2;
    int sum = 0, most = 0;
    for (int lane = 0; lane < 16; ++lane) {
      sum += x[warp * 32 + lane];
      if (!partial) most = std::max(most, x[warp * 32 + 16 + lane]);
    }
    const int odd = 16 * (sum % 2) + (partial ? 0 : 16 * (most % 2));
    for (int lane = 0; lane < (partial ? 16 : 32); ++lane) {
      const int source = lane ^ 1;
      int truth = (source < 16 ? sum : most) + 1000 * odd + (source == 16 ? 7 * sum : 0);
      truth += (warp == 1 ? 100000 : 0) + (warp >= 1 ? 1000000 : 0) + 30000000;
      expect("a thread's value", y[warp * 32 + lane], truth);
    }
  }
}

// Launches and the runtime.

__global__ void nothing() {}

void test_launches() {
  cudaLaunchConfig_t config{dim3(1), dim3(kWarp), 0, nullptr};
  if (breaks("too many threads")) config.blockDim = dim3(1056);
  if (breaks("too many blocks")) config.gridDim = dim3(1u << 31);
  if (breaks("a second dimension")) config.gridDim = dim3(1, 2);
  expect_success(cudaLaunchKernelEx(&config, nothing));

  Device device{};
  expect_success(find_device(device));
  expect("refused",
         int(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  int(device.shared) + 1)),
         int(cudaErrorInvalidValue));
  Buffer<int> from(3), to(3);
  expect_success(cudaMemsetAsync(from.get(), 0, 3 * sizeof(int)));
  expect_success(cudaMemcpyAsync(to.get(), from.get(), 3 * sizeof(int), cudaMemcpyDeviceToDevice));
  expect("copied", to[2], 0);
  expect("saturated", __saturatef(NAN) + __saturatef(-1.0f) + __saturatef(2.0f), 1.0f);
}

}  // namespace

int main(int count, char** arguments) {
  chosen = count > 1 ? arguments[1] : "none";
  test_row_sums();
  test_smoothing(131);
  test_smoothing(7001);  // more than 48 KB
  test_warp_work();
  test_launches();
  return wrong;
}
