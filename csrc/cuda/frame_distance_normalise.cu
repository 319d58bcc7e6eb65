// Normalisation of a representation A (B, C, T) before its distances, and of the gradient after:
//   features: a[c, t] = A[c, t] / D[t],            D[t] = sum_c (A[c, t] + 1/C)
//   time:     a[c, t] = (A[c, t] + 1/C) / E[c],    E[c] = sum_t (A[c, t] + 1/C)
//   features: dA[c, t] = (da[c, t] - sum_c' da[c', t] a[c', t]) / D[t]
//   time:     dA[c, t] = (da[c, t] - sum_t' da[c, t'] a[c, t']) / E[c]
//
// Floor: bytes (forward reads A, writes a; backward reads da and a, writes dA); what was summed is
// read again from the caches. Sums are chains of 8 in T, joined in double.
#include "frame_distance.h"
#include "kernel.cuh"
#include "reduce.cuh"

namespace rlsv_fast::cuda {
namespace {

// Features: a block takes kColumns frames, its threads in groups a share of the channels each.
constexpr int kColumns = 8, kColumnThreads = 512, kGroups = kColumnThreads / kColumns;
// Time: a warp takes a channel.
constexpr int kRows = 8, kRowThreads = kRows * 32;
constexpr int64_t kWaves = 8;  // blocks per processor
constexpr int kBatch = 8;      // loads in flight per thread

// term(0) + ... + term(count - 1).
template <typename T, typename Term>
__device__ __forceinline__ double chained_sum(int64_t count, const Term& term) {
  double total = 0;
  for (int64_t index = 0; index < count; index += kBatch) {
    T chain = T(0);
#pragma unroll
    for (int k = 0; k < kBatch; ++k) chain += index + k < count ? term(index + k) : T(0);
    total += double(chain);
  }
  return total;
}

// store(index, load(index)) for every index below count.
template <typename T, typename Load, typename Store>
__device__ __forceinline__ void transform(int64_t count, const Load& load, const Store& store) {
  for (int64_t index = 0; index < count; index += kBatch) {
    T value[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) value[k] = index + k < count ? load(index + k) : T(0);
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (index + k < count) store(index + k, value[k]);
  }
}

// Joins the sums of the groups of channels of every column; every thread gets its column's.
__device__ __forceinline__ double join_groups(double sum) {
  __shared__ double sums[kColumnThreads / kWarp][kColumns];
  const int column = threadIdx.x % kColumns;
#pragma unroll
  for (int offset = kWarp / 2; offset >= kColumns; offset /= 2)
    sum += __shfl_xor_sync(kEveryLane, sum, offset);
  __syncthreads();  // sums may still be read
  if (threadIdx.x % kWarp < kColumns) sums[threadIdx.x / kWarp][column] = sum;
  __syncthreads();
  sum = 0;
  for (int warp = 0; warp < int(kColumnThreads / kWarp); ++warp) sum += sums[warp][column];
  return sum;
}

// A thread takes every kGroups-th channel of one frame; `across` blocks cover an item's frames.
template <typename T>
__global__ void __launch_bounds__(kColumnThreads, 1)
    normalise_columns(Frames<T> in, int64_t across) {
  const int64_t group = threadIdx.x / kColumns, column = threadIdx.x % kColumns;
  const int64_t count = (in.channels + kGroups - 1 - group) / kGroups;
  for (int64_t block = blockIdx.x; block < in.batch * across; block += gridDim.x) {
    const int64_t item = block / across, t = block % across * kColumns + column;
    const bool inside = t < in.frames;
    const T* from = in.representation + (item * in.channels + group) * in.frames + t;
    const auto load = [&](int64_t index) {
      return inside ? from[index * kGroups * in.frames] : T(0);
    };
    const double sum = chained_sum<T>(count, load);
    const T divisor = T(1.0 + join_groups(sum));  // sum_c 1/C = 1; 1 in the padding
    if (t >= in.stride) continue;
    if (inside && group == 0) in.divisors[item * in.frames + t] = divisor;
    T* to = in.values + (item * in.channels + group) * in.stride + t;
    transform<T>(count, load, [&](int64_t index, T value) {
      to[index * kGroups * in.stride] = value / divisor;
    });
  }
}

template <typename T>
__global__ void __launch_bounds__(kColumnThreads, 1)
    denormalise_columns(Frames<T> in, int64_t across, T* gradient) {
  const int64_t group = threadIdx.x / kColumns, column = threadIdx.x % kColumns;
  for (int64_t block = blockIdx.x; block < in.batch * across; block += gridDim.x) {
    const int64_t item = block / across, t = block % across * kColumns + column;
    const bool inside = t < in.frames;
    const int64_t count = inside ? (in.channels + kGroups - 1 - group) / kGroups : 0;
    T* flow = gradient + (item * in.channels + group) * in.frames + t;
    const T* value = in.values + (item * in.channels + group) * in.stride + t;
    const auto load = [&](int64_t index) { return flow[index * kGroups * in.frames]; };
    const double sum = chained_sum<T>(
        count, [&](int64_t index) { return load(index) * value[index * kGroups * in.stride]; });
    const T inner = T(join_groups(sum));
    const T divisor = inside ? in.divisors[item * in.frames + t] : T(1);
    transform<T>(count, load, [&](int64_t index, T mine) {
      flow[index * kGroups * in.frames] = (mine - inner) / divisor;
    });
  }
}

// A warp per channel; without normalisation a copy into padded rows.
template <typename T>
__global__ void __launch_bounds__(kRowThreads, 2) normalise_rows(Frames<T> in, T floor) {
  const bool scaled = in.normalize == kTime;
  const int64_t rows = in.batch * in.channels, lane = threadIdx.x % 32;
  const int64_t count = (in.frames + 31 - lane) / 32, padded = (in.stride + 31 - lane) / 32;
  for (int64_t row = int64_t(blockIdx.x) * kRows + threadIdx.x / 32; row < rows;
       row += int64_t(gridDim.x) * kRows) {
    const T* from = in.representation + row * in.frames + lane;
    T divisor = T(1);
    if (scaled) {
      const double sum = chained_sum<T>(count, [&](int64_t index) { return from[index * 32]; });
      divisor = T(warp_reduce(sum) + double(in.frames) / double(in.channels));
      if (lane == 0) in.divisors[row] = divisor;
    }
    T* to = in.values + row * in.stride + lane;
    transform<T>(
        padded, [&](int64_t index) { return index < count ? from[index * 32] : T(0); },
        [&](int64_t index, T value) {
          to[index * 32] = index < count && scaled ? (value + floor) / divisor : value;
        });
  }
}

template <typename T>
__global__ void __launch_bounds__(kRowThreads, 2) denormalise_rows(Frames<T> in, T* gradient) {
  const int64_t rows = in.batch * in.channels, lane = threadIdx.x % 32;
  const int64_t count = (in.frames + 31 - lane) / 32;
  for (int64_t row = int64_t(blockIdx.x) * kRows + threadIdx.x / 32; row < rows;
       row += int64_t(gridDim.x) * kRows) {
    T* flow = gradient + row * in.frames + lane;
    const T* value = in.values + row * in.stride + lane;
    const auto load = [&](int64_t index) { return flow[index * 32]; };
    const double sum =
        chained_sum<T>(count, [&](int64_t index) { return load(index) * value[index * 32]; });
    const T inner = T(warp_reduce(sum)), divisor = in.divisors[row];
    transform<T>(count, load,
                 [&](int64_t index, T mine) { flow[index * 32] = (mine - inner) / divisor; });
  }
}

Grid row_grid(const Device& device, int64_t batch, int64_t channels) {
  return {spread(device, divide_up(batch * channels, kRows), kWaves), kRowThreads};
}

}  // namespace

template <typename T>
cudaError_t normalise_frames(const Frames<T>& in, cudaStream_t stream) {
  Device device;
  if (const cudaError_t error = find_device(device)) return error;
  if (in.channels == 0 || in.frames == 0) return cudaSuccess;
  if (in.normalize != kFeatures)
    return launch(normalise_rows<T>, row_grid(device, in.batch, in.channels), stream, in,
                  T(1.0 / double(in.channels)));
  const int64_t across = divide_up(in.stride, kColumns);
  const Grid grid{spread(device, in.batch * across, kWaves), kColumnThreads};
  return launch(normalise_columns<T>, grid, stream, in, across);
}

template <typename T>
cudaError_t denormalise_gradient(const Frames<T>& in, T* gradient, cudaStream_t stream) {
  Device device;
  if (const cudaError_t error = find_device(device)) return error;
  if (in.channels == 0 || in.frames == 0 || in.normalize == kNone) return cudaSuccess;
  if (in.normalize == kTime)
    return launch(denormalise_rows<T>, row_grid(device, in.batch, in.channels), stream, in,
                  gradient);
  const int64_t across = divide_up(in.frames, kColumns);
  const Grid grid{spread(device, in.batch * across, kWaves), kColumnThreads};
  return launch(denormalise_columns<T>, grid, stream, in, across, gradient);
}

#define RLSV_INSTANTIATE(T)                                                 \
  template cudaError_t normalise_frames<T>(const Frames<T>&, cudaStream_t); \
  template cudaError_t denormalise_gradient<T>(const Frames<T>&, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
