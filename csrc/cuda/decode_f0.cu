// One f0 for each voice and frame of saliences A (B, V, F, T), bins F_k = l 2^(k/o). With k* the
// first largest bin of a frame and h its voice's threshold, f = F_k* where A_k* >= h and k* != 0,
// else 0; what each method makes of f, and its gradient, is in decode_f0_rules.h and
// cpu/decode_f0.cpp. The gradient goes to the bins next to k* (soft), or to k* alone.
//
// Floors on an H200 at B = 15, V = 4, F = 360, T = 344 in float32 (4.3 TB/s; 33.5e12
// instructions/s):
//   forward   reads A, writes four numbers a frame: 30.1 MB, 7.0 us    6 instructions a bin: 1.3 us
//   backward  reads them and G, writes dA: 30.1 MB, 7.0 us             8 instructions a bin: 1.8 us
#include "decode_f0.h"
#include "decode_f0_grid.h"
#include "kernel.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr int kLanes = kDecodeFrames, kParts = kDecodeParts, kThreads = kLanes * kParts;

// The place of a thread: a frame of a voice, and which part of its bins.
struct Column {
  int64_t plane, frame;
  int part;

  __device__ __forceinline__ Column(int64_t tile, int64_t tiles)
      : plane(tile / tiles),
        frame(tile % tiles * kLanes + threadIdx.x % kLanes),
        part(threadIdx.x / kLanes) {}
};

template <typename T>
__device__ __forceinline__ bool above(T here, T peak) {
  return here > peak || here != here;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    decode(const T* __restrict__ salience, F0Shape shape, F0Method method, F0Thresholds thresholds,
           F0Grid grid, T* __restrict__ f0, int32_t* __restrict__ bin, T* __restrict__ slope,
           T* __restrict__ moved) {
  __shared__ T peaks[kParts][kLanes];
  __shared__ int32_t places[kParts][kLanes];
  const int64_t tiles = (shape.frames + kLanes - 1) / kLanes;
  const int64_t share = (shape.bins + kParts - 1) / kParts;
  for (int64_t i = blockIdx.x; i < shape.batch * shape.voices * tiles; i += gridDim.x) {
    const Column at(i, tiles);
    const int lane = threadIdx.x % kLanes;
    const T* column = salience + at.plane * shape.bins * shape.frames + at.frame;
    const int64_t begin = at.part * share;
    const int64_t end = begin + share < shape.bins ? begin + share : shape.bins;
    // A part without bins is never above another; the first has one.
    T peak = T(-INFINITY);
    int64_t place = begin;
    if (at.frame < shape.frames) {
#pragma unroll 8
      for (int64_t k = begin; k < end; ++k) {
        const T here = column[k * shape.frames];
        if (above(here, peak)) {
          peak = here;
          place = k;
        }
      }
    }
    peaks[at.part][lane] = peak;
    places[at.part][lane] = int32_t(place);
    __syncthreads();
    if (at.part == 0 && at.frame < shape.frames) {
#pragma unroll
      for (int part = 1; part < kParts; ++part)
        if (above(peaks[part][lane], peak)) {
          peak = peaks[part][lane];
          place = places[part][lane];
        }
      const DecodedF0<T> decoded =
          decode_frame<T>(method, column, shape.frames, shape.bins, peak, place,
                          thresholds.of[at.plane % shape.voices], grid, grid);
      const int64_t out = at.plane * shape.frames + at.frame;
      f0[out] = decoded.f0;
      bin[out] = decoded.bin;
      slope[out] = decoded.slope;
      if (method == kSoft) moved[out] = decoded.moved;
    }
    __syncthreads();  // the next tile's peaks come to the same place
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    spread(const T* __restrict__ grad, const int32_t* __restrict__ bin, const T* __restrict__ slope,
           const T* __restrict__ moved, F0Shape shape, F0Method method, T* __restrict__ result) {
  const int64_t tiles = (shape.frames + kLanes - 1) / kLanes;
  for (int64_t i = blockIdx.x; i < shape.batch * shape.voices * tiles; i += gridDim.x) {
    const Column at(i, tiles);
    if (at.frame >= shape.frames) continue;
    const int64_t in = at.plane * shape.frames + at.frame;
    const int64_t place = bin[in], reach = place < 0 ? -1 : method == kSoft ? kSoftReach : 0;
    T flow = grad[in] * slope[in];
    if (method == kSte) flow = flow > T(kSteMost) ? T(kSteMost) : flow;
    if (method == kSte) flow = flow < T(-kSteMost) ? T(-kSteMost) : flow;
    const T mean = method == kSoft ? moved[in] : T(0);
    T* column = result + at.plane * shape.bins * shape.frames + at.frame;
    for (int64_t k = at.part; k < shape.bins; k += kParts) {
      const int64_t away = k - place;
      const bool near = away >= -reach && away <= reach;
      const T weight = method == kSoft ? T(away) - mean : T(1);
      column[k * shape.frames] = near ? flow * weight : T(0);
    }
  }
}

}  // namespace

template <typename T>
cudaError_t decode_f0_forward(const T* salience, const F0Shape& shape, F0Method method,
                              const F0Thresholds& thresholds, const F0Grid& grid, T* f0,
                              int32_t* bin, T* slope, T* moved, cudaStream_t stream) {
  return launch(decode<T>, decode_f0_grid(shape.batch * shape.voices, shape.frames), stream,
                salience, shape, method, thresholds, grid, f0, bin, slope, moved);
}

template <typename T>
cudaError_t decode_f0_backward(const T* grad, const int32_t* bin, const T* slope, const T* moved,
                               const F0Shape& shape, F0Method method, T* result,
                               cudaStream_t stream) {
  return launch(spread<T>, decode_f0_grid(shape.batch * shape.voices, shape.frames), stream, grad,
                bin, slope, moved, shape, method, result);
}

#define RLSV_INSTANTIATE(T)                                                                       \
  template cudaError_t decode_f0_forward<T>(const T*, const F0Shape&, F0Method,                   \
                                            const F0Thresholds&, const F0Grid&, T*, int32_t*, T*, \
                                            T*, cudaStream_t);                                    \
  template cudaError_t decode_f0_backward<T>(const T*, const int32_t*, const T*, const T*,        \
                                             const F0Shape&, F0Method, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
