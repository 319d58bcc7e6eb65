// The two transforms of short convolutions over frames, adjoint to each other. Windows of `terms`
// frames, d apart, begin every `advance` of them: sequences s = (b q + tile) d + phase, 0 <= tile <
// q, 0 <= phase < d. With M of frame_convolution_rules.h:
//   analysis:   X[r, s, c] = sum_k M[r, k] x[b, t(s, k), c]           x = 0 outside its frames
//   synthesis:  y[b, t, c] = a[b, t, c] + sum_{s, k : t(s, k) = t} sum_r M[r, k] X[r, s, c]
// with t(s, k) = phase + d (tile advance + k) - offset. A thread keeps the sums of up to 20
// neighbouring outputs (rows, or frames of one phase) of one pack of channels in registers and
// reads each of their inputs once; M lies in shared memory. Synthesis gathers: windows are added in
// the order of their tiles, and outputs written once. Where M is a unit matrix, nothing is
// multiplied. Where a channel is one number and taps are innermost, taps pass through shared
// memory, so that a warp reads and writes whole lines.
//
// Floors on an H200 in float32 (4.3 TB/s; 33.5e12 instructions/s), of the papers' context layer
// (B = 16, T = 173, C = 800, 5 taps, d = 10: 29 rows of 160 windows of 20 frames, 18 outputs):
//   analysis of frames     23.7 MB, 5.5 us    one instruction a coefficient and window:  2.2 us
//   analysis of weights    87.0 MB, 20.2 us   (C C, 5) to (29, C C), all rows at once:   2.8 us
//   synthesis of outputs   23.7 MB, 5.5 us                                               2.0 us
//   synthesis of weights   87.0 MB, 20.2 us                                              2.8 us
#include "frame_convolution.cuh"
#include "frame_convolution.h"
#include "frame_convolution_taps.cuh"

namespace rlsv_fast::cuda {
namespace {

// A unit is a pack of channels of a sequence. kUnit: M is a unit matrix.
template <int kWidth, bool kUnit, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    analyse(const T* __restrict__ signal, Transform in, T* __restrict__ spectrum) {
  const Windows& shape = in.shape;
  const int share = int(in.plan.share);
  const int64_t packs = shape.channels / kWidth, sequences = shape.sequences();
  Matrix<false, T> matrix(in.plan);
  for (int64_t i = blockIdx.x; i < in.plan.pieces; i += gridDim.x) {
    const Piece piece(in.plan, i);
    const int64_t s = piece.unit / packs, channel = (piece.unit - s * packs) * kWidth;
    const int64_t phase = s % shape.dilation, place = s / shape.dilation;
    const int64_t item = place / shape.tiles, tile = place - item * shape.tiles;
    const int64_t start = phase + shape.dilation * tile * shape.advance - shape.offset;
    const T* from = signal + item * shape.frames * shape.channels + channel;
    const auto load = [&](int64_t k, bool exists) {
      const int64_t t = start + shape.dilation * k;
      return exists && t >= 0 && t < shape.frames ? load_lanes<kWidth>(from + t * shape.channels)
                                                  : no_lanes<kWidth, T>();
    };
    Sums<kWidth, T> sums;
    if constexpr (kUnit) {
#pragma unroll
      for (int u = 0; u < kSums; ++u) {
        const int64_t k = in.mirrored(in.first + piece.group * share + u);
        sums.of[u] = load(k, piece.busy && u < share && k >= 0 && k < shape.terms);
      }
    } else {
      for (int64_t begin = 0; begin < in.plan.inputs; begin += in.plan.stage) {
        const int64_t left = in.plan.inputs - begin;
        const int count = int(left < in.plan.stage ? left : in.plan.stage);
        const T* coefficients = matrix.take(in, piece.group, begin, count);
        if (!piece.busy) continue;
        for (int n = 0; n < count; n += kLoads) {
          Lanes<kWidth, T> inputs[kLoads];
#pragma unroll
          for (int j = 0; j < kLoads; ++j) inputs[j] = load(begin + n + j, n + j < count);
#pragma unroll
          for (int j = 0; j < kLoads; ++j)
            if (n + j < count) sums.add(coefficients + (n + j) * share, share, inputs[j]);
        }
      }
    }
    if (!piece.busy) continue;
#pragma unroll
    for (int u = 0; u < kSums; ++u) {
      const int64_t row = piece.group * share + u;
      if (u < share && row < in.rows)
        store_lanes(sums.of[u], spectrum + (row * sequences + s) * shape.channels + channel);
    }
  }
}

// A unit is a pack of channels of a span, in one phase of an item.
template <int kWidth, bool kUnit, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    synthesise(const T* __restrict__ spectrum, const T* __restrict__ addend, Transform in,
               T* __restrict__ result) {
  const Windows& shape = in.shape;
  const int share = int(in.plan.share);
  const int64_t packs = shape.channels / kWidth, rows = in.rows;
  const int64_t row_stride = shape.sequences() * shape.channels;
  Matrix<true, T> matrix(in.plan);
  for (int64_t i = blockIdx.x; i < in.plan.pieces; i += gridDim.x) {
    const Piece piece(in.plan, i);
    const int64_t place = piece.unit / packs, channel = (piece.unit - place * packs) * kWidth;
    const int64_t phase = place % shape.dilation, nth = place / shape.dilation;
    const int64_t item = nth / in.spans.count;
    const int64_t span = in.spans.first + nth - item * in.spans.count;
    const T* from =
        spectrum + (item * shape.tiles * shape.dilation + phase) * shape.channels + channel;
    const auto load = [&](int64_t row, int64_t tile, bool exists) {
      return exists && tile >= 0 && tile < shape.tiles
                 ? load_lanes<kWidth>(from + row * row_stride +
                                      tile * shape.dilation * shape.channels)
                 : no_lanes<kWidth, T>();
    };
    Sums<kWidth, T> sums;
    if constexpr (kUnit) {
      for (int64_t back = in.spans.depth - 1; piece.busy && back >= 0; --back) {
#pragma unroll
        for (int u = 0; u < kSums; ++u) {
          const int64_t k = piece.group * share + u + back * in.spans.length;
          const int64_t row = in.mirrored(k) - in.first;
          const bool exists = u < share && k < shape.terms && row >= 0 && row < rows;
          sums.add(u, load(row, span - back, exists));
        }
      }
    } else {
      for (int64_t begin = 0; begin < in.plan.inputs; begin += in.plan.stage) {
        const int64_t left = in.plan.inputs - begin;
        const int count = int(left < in.plan.stage ? left : in.plan.stage);
        const T* coefficients = matrix.take(in, piece.group, begin, count);
        if (!piece.busy) continue;
        // Input n is a row of the window that began `back` spans before.
        int64_t back = in.spans.depth - 1 - begin / rows, row = begin % rows;
        for (int n = 0; n < count; n += kLoads) {
          Lanes<kWidth, T> inputs[kLoads];
#pragma unroll
          for (int j = 0; j < kLoads; ++j) {
            inputs[j] = load(row, span - back, n + j < count);
            if (++row == rows) {
              row = 0;
              --back;
            }
          }
#pragma unroll
          for (int j = 0; j < kLoads; ++j)
            if (n + j < count) sums.add(coefficients + (n + j) * share, share, inputs[j]);
        }
      }
    }
    if (!piece.busy) continue;
#pragma unroll
    for (int u = 0; u < kSums; ++u) {
      const int64_t place_in_span = piece.group * share + u;
      const int64_t t =
          phase + shape.dilation * (span * in.spans.length + place_in_span) - shape.offset;
      if (u >= share || place_in_span >= in.spans.length || t < 0 || t >= shape.frames) continue;
      const int64_t at = (item * shape.frames + t) * shape.channels + channel;
      if (addend) sums.add(u, load_lanes<kWidth>(addend + at));
      store_lanes(sums.of[u], result + at);
    }
  }
}

// No points stand for unit matrices, but for the ones of outputs.
bool is_unit(const Coefficients& of) { return of.points == 0 && of.side != kOutputs; }

template <typename T>
cudaError_t plan_transform(Transform& transform, int64_t outputs, int64_t inputs, int64_t units,
                           Staged staged) {
  Device device{};
  const cudaError_t error = find_device(device);
  if (is_unit(transform.of)) inputs = 0;
  transform.plan = transform_grid(device, outputs, inputs, units, transform.of.points, staged,
                                  int64_t(sizeof(T)));
  return error;
}

}  // namespace

template <typename T>
cudaError_t frame_convolution_analysis(const T* signal, const Coefficients& of, int64_t first,
                                       int64_t rows, const Windows& shape, T* spectrum,
                                       cudaStream_t stream) {
  constexpr int kLanes = Pack<T>::kLanes;
  Transform in{of, first, rows, shape, {}, {}};
  const bool taps = shape.are_taps(), unit = is_unit(of);
  const bool packs = packable(signal, shape.channels) && packable(spectrum, shape.channels);
  const cudaError_t error = plan_transform<T>(
      in, rows, shape.terms, shape.sequences() * (shape.channels / (packs ? kLanes : 1)),
      taps ? Staged::kInputs : Staged::kNothing);
  if (error != cudaSuccess) return error;
  const auto run = [&](auto kernel) {
    return launch(kernel, in.plan.grid, stream, signal, in, spectrum);
  };
  if (taps) return unit ? run(analyse_taps<true, T>) : run(analyse_taps<false, T>);
  if (packs) return unit ? run(analyse<kLanes, true, T>) : run(analyse<kLanes, false, T>);
  return unit ? run(analyse<1, true, T>) : run(analyse<1, false, T>);
}

template <typename T>
cudaError_t frame_convolution_synthesis(const T* spectrum, const T* addend, const Coefficients& of,
                                        int64_t first, int64_t rows, const Windows& shape,
                                        T* result, cudaStream_t stream) {
  constexpr int kLanes = Pack<T>::kLanes;
  Transform in{of, first, rows, shape, {}, {}};
  in.spans = make_spans(shape.frames, shape.terms, shape.dilation, shape.tiles, shape.advance,
                        shape.offset);
  const bool taps = shape.are_taps(), unit = is_unit(of);
  const bool packs = packable(spectrum, shape.channels) && packable(addend, shape.channels) &&
                     packable(result, shape.channels);
  const int64_t units = taps ? shape.batch
                             : shape.batch * in.spans.count * shape.dilation *
                                   (shape.channels / (packs ? kLanes : 1));
  const cudaError_t error = plan_transform<T>(in, in.spans.length, in.spans.depth * rows, units,
                                              taps ? Staged::kOutputs : Staged::kNothing);
  if (error != cudaSuccess) return error;
  const auto run = [&](auto kernel) {
    return launch(kernel, in.plan.grid, stream, spectrum, addend, in, result);
  };
  if (taps) return unit ? run(synthesise_taps<true, T>) : run(synthesise_taps<false, T>);
  if (packs) return unit ? run(synthesise<kLanes, true, T>) : run(synthesise<kLanes, false, T>);
  return unit ? run(synthesise<1, true, T>) : run(synthesise<1, false, T>);
}

#define RLSV_INSTANTIATE(T)                                                                      \
  template cudaError_t frame_convolution_analysis<T>(const T*, const Coefficients&, int64_t,     \
                                                     int64_t, const Windows&, T*, cudaStream_t); \
  template cudaError_t frame_convolution_synthesis<T>(const T*, const T*, const Coefficients&,   \
                                                      int64_t, int64_t, const Windows&, T*,      \
                                                      cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
