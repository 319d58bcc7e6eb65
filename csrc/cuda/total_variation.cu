// Total variation of representations A (B, C, T), with differences along frames and components
//   d[c, t] = A[c, t] - A[c, t-1],  1 <= t < T       e[c, t] = A[c, t] - A[c-1, t],  1 <= c < C
//   norm 1:  V[b] = (sum |d| + sum |e|) / (C T)    sums over c, t of item b
//   norm 2:  V    = |d|_2 / T + |e|_2 / C          norms over the whole batch
// and, with n running over the neighbours of (c, t) that exist,
//   norm 1:  dA[c, t] = G[b] / (C T) sum_n sign(A[c, t] - A[n])
//   norm 2:  dA[c, t] = G sum_n (A[c, t] - A[n]) / (T |d|_2 or C |e|_2)  zero where a norm is zero
// A neighbour that does not exist is replaced by the cell itself, which contributes nothing.
//
// Each lane walks down a frame, so that the cell above stays in a register; the cells beside are
// those of the neighbouring lanes and come from the first-level cache.
//
// Floors on an H200 at B = 8, C = 800, T = 173 in float32 (4.3 TB/s; 33.5e12 instructions/s):
//   forward   reads A: 4.4 MB, 1.0 us                8 instructions a cell: 0.3 us
//   backward  reads A, writes dA: 8.9 MB, 2.1 us    12 instructions a cell: 0.4 us
#include "reduce.cuh"
#include "sums.cuh"
#include "total_variation.h"

namespace rlsv_fast::cuda {
namespace {

constexpr int kRows = kPieceComponents;
constexpr int kWarps = kVariationThreads / kWarp;

// The cells of one lane in a piece: components [begin, begin + rows) of a frame, none where the
// lane lies beyond the last frame.
struct Column {
  int64_t begin, frame;
  int rows;

  __device__ __forceinline__ Column(const VariationShape& shape, int64_t piece)
      : begin(piece / shape.tiles * kRows),
        frame(piece % shape.tiles * kPieceFrames + threadIdx.x % kWarp) {
    const int64_t left = shape.components - begin;
    rows = frame >= shape.frames ? 0 : left < kRows ? int(left) : kRows;
  }
};

template <bool kSquared, typename T>
__device__ __forceinline__ T size_of(T difference) {
  return kSquared ? difference * difference : difference < T(0) ? -difference : difference;
}

template <bool kSquared, typename T>
__global__ void __launch_bounds__(kVariationThreads)
    sum_differences(const T* in, VariationShape shape, double* partials) {
  __shared__ double scratch[kWarps];
  for (int64_t i = blockIdx.x; i < shape.partials; i += gridDim.x) {
    const int64_t item = i / shape.blocks, begin = (i - item * shape.blocks) * shape.share;
    const int64_t end = begin + shape.share < shape.pieces ? begin + shape.share : shape.pieces;
    double along_frames = 0.0, along_components = 0.0;
    for (int64_t piece = begin + threadIdx.x / kWarp; piece < end; piece += kWarps) {
      const Column column(shape, piece);
      const T* cell = in + (item * shape.components + column.begin) * shape.frames + column.frame;
      const int left = column.frame > 0 ? 1 : 0;
      T here[kRows], before[kRows], above = T(0);
      if (column.rows > 0) above = column.begin > 0 ? *(cell - shape.frames) : *cell;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        here[row] = before[row] = T(0);
        if (row < column.rows) {
          here[row] = cell[row * shape.frames];
          before[row] = cell[row * shape.frames - left];
        }
      }
      T by_frame = T(0), by_component = T(0);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        by_frame += size_of<kSquared>(here[row] - before[row]);
        if (row < column.rows) by_component += size_of<kSquared>(here[row] - above);
        above = here[row];
      }
      along_frames += double(by_frame);
      along_components += double(by_component);
    }
    along_frames = block_reduce<kVariationThreads>(along_frames, scratch);
    along_components = block_reduce<kVariationThreads>(along_components, scratch);
    if (threadIdx.x == 0) {
      partials[2 * i] = along_frames;
      partials[2 * i + 1] = along_components;
    }
  }
}

// Norm 1: a value per item. Norm 2: one value and its two norms.
template <bool kSquared, typename T>
__global__ void __launch_bounds__(kSumThreads)
    value_of(const double* partials, VariationShape shape, double* norms, T* value) {
  __shared__ double scratch[kSumThreads / kWarp];
  const int64_t values = kSquared ? 1 : shape.batch;
  const int64_t count = kSquared ? shape.partials : shape.blocks;
  const double frames = double(shape.frames), components = double(shape.components);
  for (int64_t i = blockIdx.x; i < values; i += gridDim.x) {
    const double along_frames = add_partials(partials + 2 * i * count, count, 2, scratch);
    const double along_components = add_partials(partials + 2 * i * count + 1, count, 2, scratch);
    if (threadIdx.x == 0) {
      const bool empty = frames * components == 0.0;
      if (kSquared) {
        norms[0] = sqrt(along_frames);
        norms[1] = sqrt(along_components);
        value[i] = T(empty ? 0.0 : norms[0] / frames + norms[1] / components);
      } else {
        value[i] = T(empty ? 0.0 : (along_frames + along_components) / (frames * components));
      }
    }
  }
}

// Factors of the differences along frames and along components.
template <typename T>
struct Slopes {
  T frames, components;
};

template <bool kSquared, typename T>
__device__ __forceinline__ Slopes<T> slopes_of(const T* grad, const double* norms,
                                               const VariationShape& shape, int64_t item) {
  if (!kSquared) return {grad[item] / (T(shape.components) * T(shape.frames)), T(0)};
  const T along_frames = T(norms[0]), along_components = T(norms[1]);
  return {along_frames > T(0) ? grad[0] / (along_frames * T(shape.frames)) : T(0),
          along_components > T(0) ? grad[0] / (along_components * T(shape.components)) : T(0)};
}

template <typename T>
__device__ __forceinline__ T sign(T here, T other) {
  return T(here > other) - T(here < other);
}

template <bool kSquared, typename T>
__global__ void __launch_bounds__(kVariationThreads)
    backward(const T* __restrict__ grad, const T* __restrict__ in, const double* __restrict__ norms,
             VariationShape shape, T* __restrict__ result) {
  const int64_t stride = int64_t(gridDim.x) * kWarps;
  for (int64_t i = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp;
       i < shape.batch * shape.pieces; i += stride) {
    const int64_t item = i / shape.pieces;
    const Column column(shape, i - item * shape.pieces);
    if (column.rows == 0) continue;
    const int64_t first = (item * shape.components + column.begin) * shape.frames + column.frame;
    const T* cell = in + first;
    const int left = column.frame > 0 ? 1 : 0, right = column.frame + 1 < shape.frames ? 1 : 0;
    T here[kRows], before[kRows], after[kRows];
    T above = column.begin > 0 ? *(cell - shape.frames) : *cell, below;
    const int64_t under = column.begin + kRows < shape.components ? kRows : column.rows - 1;
    const T last = cell[under * shape.frames];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row < column.rows) {
        here[row] = cell[row * shape.frames];
        before[row] = cell[row * shape.frames - left];
        after[row] = cell[row * shape.frames + right];
      }
    }
    const Slopes<T> slopes = slopes_of<kSquared>(grad, norms, shape, item);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (row < column.rows) {
        below = row + 1 < column.rows ? here[row + 1 < kRows ? row + 1 : row] : last;
        const T center = here[row];
        result[first + row * shape.frames] =
            kSquared ? ((center - before[row]) + (center - after[row])) * slopes.frames +
                           ((center - above) + (center - below)) * slopes.components
                     : (sign(center, before[row]) + sign(center, after[row]) + sign(center, above) +
                        sign(center, below)) *
                           slopes.frames;
        above = center;
      }
    }
  }
}

}  // namespace

template <typename T>
cudaError_t total_variation_forward(const T* representation, const VariationShape& shape,
                                    bool squared, double* partials, double* norms, T* value,
                                    cudaStream_t stream) {
  const cudaError_t error =
      launch(squared ? sum_differences<true, T> : sum_differences<false, T>,
             variation_sums_grid(shape), stream, representation, shape, partials);
  if (error != cudaSuccess) return error;
  return launch(squared ? value_of<true, T> : value_of<false, T>,
                sums_grid(squared ? 1 : shape.batch), stream, partials, shape, norms, value);
}

template <typename T>
cudaError_t total_variation_backward(const T* grad, const T* representation, const double* norms,
                                     const VariationShape& shape, bool squared, T* result,
                                     cudaStream_t stream) {
  return launch(squared ? backward<true, T> : backward<false, T>, variation_backward_grid(shape),
                stream, grad, representation, norms, shape, result);
}

#define RLSV_INSTANTIATE(T)                                                                       \
  template cudaError_t total_variation_forward<T>(const T*, const VariationShape&, bool, double*, \
                                                  double*, T*, cudaStream_t);                     \
  template cudaError_t total_variation_backward<T>(const T*, const T*, const double*,             \
                                                   const VariationShape&, bool, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
