// Frames of a signal and their overlap-add, adjoint to each other (hop S, offset o):
//   frames:       F[b, t, l] = x[b, t S + l - o]                    0 outside the signal
//   overlap_add:  y[b, n] = sum_{t, l : t S + l - o = n} F[b, t, l]    0 <= t < T, 0 <= l < L
// overlap_add gathers: each thread adds the frames over its outputs in ascending order, with the
// rounding errors kept (Accumulator), and writes them once.
//
// Floors on an H200 at B = 8, N = 44100, T = 173, L = 2048, S = 256 in float32 (4.3 TB/s; 33.5e12
// instructions/s), either way: 12.7 MB, 3.0 us; 10 instructions a number: 0.8 us. 16
// bytes move at once where S and L are multiples of them; in frames, o and N must be, too.
#include "overlap_add.h"
#include "sums.cuh"

namespace rlsv_fast::cuda {
namespace {

// `value`, no less than 0 and no more than `most`.
__device__ __forceinline__ int clamp_taps(int64_t value, int most) {
  return value < 0 ? 0 : value > most ? most : int(value);
}

// A block takes kFrameTaps of a frame. Frames are aligned with the signal where kWidth > 1: lanes
// lie inside it or outside it together.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kFrameThreads)
    cut_frames(const T* __restrict__ signal, Framing shape, int64_t pieces,
               T* __restrict__ frames) {
  constexpr int kPacks = kFrameTaps / (kFrameThreads * kWidth);
  const int64_t rows = shape.batch * shape.count;
  for (int64_t i = blockIdx.x; i < rows * pieces; i += gridDim.x) {
    const int64_t row = i / pieces, item = row / shape.count;
    const int64_t begin = (i - row * pieces) * kFrameTaps;
    const int64_t sample = (row - item * shape.count) * shape.hop - shape.offset + begin;
    // Of the block's taps, those before `end` exist, those in [low, high) see the signal.
    const int end = clamp_taps(shape.taps - begin, kFrameTaps);
    const int low = clamp_taps(-sample, end), high = clamp_taps(shape.length - sample, end);
    const T* from = signal + item * shape.length + sample;
    T* to = frames + row * shape.taps + begin;
    Lanes<kWidth, T> seen[kPacks];
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      const int tap = (k * int(kFrameThreads) + int(threadIdx.x)) * kWidth;
      seen[k] = tap >= low && tap < high ? load_lanes<kWidth>(from + tap) : no_lanes<kWidth, T>();
    }
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      const int tap = (k * int(kFrameThreads) + int(threadIdx.x)) * kWidth;
      if (tap < end) store_lanes(seen[k], to + tap);
    }
  }
}

// A block takes kOverlapThreads groups of kWidth outputs, counted from `start`, a multiple of
// kWidth. Frames begin and end at such multiples where kWidth > 1. `blocks` per item.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kOverlapThreads)
    add_frames(const T* __restrict__ frames, Framing shape, int64_t start, int64_t blocks,
               bool whole, T* __restrict__ signal) {
  for (int64_t i = blockIdx.x; i < shape.batch * blocks; i += gridDim.x) {
    const int64_t item = i / blocks;
    // Position 0 is tap 0 of frame 0; output n lies at n + offset.
    const int64_t place = ((i - item * blocks) * kOverlapThreads + threadIdx.x) * kWidth;
    const int64_t position = start + place;
    const int64_t first = position < shape.taps ? 0 : (position - shape.taps) / shape.hop + 1;
    int64_t last = position < 0 ? -1 : position / shape.hop;
    if (last >= shape.count) last = shape.count - 1;
    const T* from =
        frames + (item * shape.count + first) * shape.taps + position - first * shape.hop;
    Accumulator<T> totals[kWidth];
#pragma unroll 4
    for (int64_t frame = first; frame <= last; ++frame, from += shape.taps - shape.hop) {
      const Lanes<kWidth, T> taps = load_lanes<kWidth>(from);
#pragma unroll
      for (int lane = 0; lane < kWidth; ++lane) totals[lane].add(taps.lane[lane]);
    }
    Lanes<kWidth, T> sums;
#pragma unroll
    for (int lane = 0; lane < kWidth; ++lane) sums.lane[lane] = totals[lane].template total<T>();
    const int64_t sample = position - shape.offset;
    T* to = signal + item * shape.length + sample;
    if (whole) {
      if (sample < shape.length) store_lanes(sums, to);
    } else {
#pragma unroll
      for (int lane = 0; lane < kWidth; ++lane)
        if (sample + lane >= 0 && sample + lane < shape.length) to[lane] = sums.lane[lane];
    }
  }
}

template <int kWidth, typename T>
cudaError_t add_frames_in(const T* frames, const Framing& shape, T* signal, cudaStream_t stream) {
  const int64_t start = overlap_start(shape.offset, kWidth);
  // Whether outputs are aligned too, so that lanes are stored together.
  const bool whole = start == shape.offset && packable(signal, shape.length);
  return launch(add_frames<kWidth, T>,
                overlap_grid(shape.batch, shape.length, shape.offset, kWidth), stream, frames,
                shape, start, overlap_blocks(shape.length, shape.offset, kWidth),
                kWidth == 1 || whole, signal);
}

}  // namespace

template <typename T>
cudaError_t frames(const T* signal, const Framing& shape, T* frames, cudaStream_t stream) {
  constexpr int kLanes = Pack<T>::kLanes;
  const bool packs = frames_align(kLanes, shape.hop, shape.offset) &&
                     packable(signal, shape.length) && packable(frames, shape.taps);
  return launch(packs ? cut_frames<kLanes, T> : cut_frames<1, T>,
                frames_grid(shape.batch * shape.count, shape.taps, packs ? kLanes : 1), stream,
                signal, shape, divide_up(shape.taps, kFrameTaps), frames);
}

template <typename T>
cudaError_t overlap_add(const T* frames, const Framing& shape, T* signal, cudaStream_t stream) {
  constexpr int kLanes = Pack<T>::kLanes;
  // The offset moves outputs only.
  if (frames_align(kLanes, shape.hop, 0) && packable(frames, shape.taps))
    return add_frames_in<kLanes>(frames, shape, signal, stream);
  return add_frames_in<1>(frames, shape, signal, stream);
}

#define RLSV_INSTANTIATE(T)                                                   \
  template cudaError_t frames<T>(const T*, const Framing&, T*, cudaStream_t); \
  template cudaError_t overlap_add<T>(const T*, const Framing&, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
