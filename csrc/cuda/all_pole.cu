// All-pole filters a (B, T, P) that change from frame to frame: frame t of signal x (B, T S) has L
// samples from t S on, zeros past the end, and is filtered from rest, faded and added:
//   y_t[n] = x[t S + n] - sum_k a_t[k] y_t[n - k]       0 <= n < L, 1 <= k <= P, y_t[n < 0] = 0
//   out[m] = sum_t h_t[m - t S] y_t[m - t S]            0 <= m < T S, frames in ascending order
//   h_t[n] = sin^2(pi n / L), but 1 where t = 0 and 2 n < L
// and backward, the transposed filters running back in time:
//   u_t[n] = h_t[n] G[t S + n] - sum_k a_t[k] u_t[n + k]   u_t[n >= L] = 0, G zero past the end
//   dx[m] = sum_t u_t[m - t S]      da_t[k] = -sum_n u_t[n] y_t[n - k]
// One kernel filters, either way: a thread takes a frame, samples go through a square of shared
// memory, so that frames are read and written along their samples. What a result gives to the next
// P is kept in P registers (transposed direct form): P independent multiply-adds per sample.
//
// Floors on an H200 at B = 60, T = 250, L = 512, S = 256, P = 20 in float32 (4.3 TB/s; 33.5e12
// instructions/s): forward 77 MB, 18 us; 154 M multiply-adds, 4.6 us; backward 123 MB, 29 us; 307
// M, 9.2 us. With few frames the L steps of a thread, one after the other, are what takes the time.
#include "all_pole.h"
#include "all_pole_grid.h"
#include "sums.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr int kSide = int(kPoleFrames);  // frames of a square, and samples

// Where the frames of a block lie in a signal, and how much of it they see; nothing where there is
// no frame.
struct Places {
  int64_t start[kSide], length[kSide];
  bool first[kSide];

  __device__ __forceinline__ void find(const PoleShape& shape, int64_t row, int lane) {
    const bool exists = row < shape.rows();
    const int64_t item = exists ? row / shape.frames : 0;
    const int64_t begin = exists ? (row - item * shape.frames) * shape.hop : 0;
    const int64_t rest = shape.samples() - begin;
    start[lane] = item * shape.samples() + begin;
    length[lane] = !exists ? 0 : rest < shape.frame ? rest : shape.frame;
    first[lane] = begin == 0;
  }
};

// kOrder poles, zero past the P that there are; kBack: u from G, else y from x.
template <int kOrder, bool kBack, typename T>
__global__ void __launch_bounds__(kSide)
    filter_frames(const T* __restrict__ signal, const T* __restrict__ coefficients, PoleShape shape,
                  T* __restrict__ frames) {
  // What is in registers; it fits into shared memory otherwise, a column per thread.
  constexpr bool kFilterKept = kOrder * sizeof(T) <= 128, kStateKept = kOrder * sizeof(T) <= 256;
  [[maybe_unused]] constexpr int kAhead = kFilterKept ? 8 : 1;  // rows on their way at once
  [[maybe_unused]] constexpr int kPoles = kStateKept ? kOrder : 4;
  __shared__ T square[kSide][kSide + 1];
  __shared__ T filters[kFilterKept ? 1 : kOrder][kSide], states[kStateKept ? 1 : kOrder][kSide];
  __shared__ Places places;
  const int lane = threadIdx.x;
  const int64_t squares = (shape.frame + kSide - 1) / kSide;
  for (int64_t group = blockIdx.x; group * kSide < shape.rows(); group += gridDim.x) {
    const int64_t first_row = group * kSide, row = first_row + lane;
    T kept_filter[kFilterKept ? kOrder : 1], kept_state[kStateKept ? kOrder : 1];
    const auto filter = [&](int k) -> T& {
      return kFilterKept ? kept_filter[kFilterKept ? k : 0] : filters[kFilterKept ? 0 : k][lane];
    };
    const auto state = [&](int k) -> T& {
      return kStateKept ? kept_state[kStateKept ? k : 0] : states[kStateKept ? 0 : k][lane];
    };
#pragma unroll
    for (int k = 0; k < kOrder; ++k) {
      const bool exists = row < shape.rows() && k < shape.order;
      filter(k) = exists ? coefficients[row * shape.order + k] : T(0);
      state(k) = T(0);
    }
    __syncwarp();  // places may still be read
    places.find(shape, row, lane);
    for (int64_t index = 0; index < squares; ++index) {
      const int64_t sample = (kBack ? squares - 1 - index : index) * kSide + lane;
      const T faded = kBack ? hann<T>(sample, shape.frame) : T(1);
      __syncwarp();  // places are known; the square is written out
#pragma unroll kAhead
      for (int r = 0; r < kSide; ++r) {
        T value = sample < places.length[r] ? signal[places.start[r] + sample] : T(0);
        if (kBack) value *= places.first[r] && is_whole(0, sample, shape.frame) ? T(1) : faded;
        square[r][lane] = value;
      }
      __syncwarp();
#pragma unroll 1
      for (int step = 0; step < kSide; ++step) {
        T& place = square[lane][kBack ? kSide - 1 - step : step];
        const T value = place + state(0);
#pragma unroll kPoles
        for (int k = 0; k + 1 < kOrder; ++k) state(k) = std::fma(-filter(k), value, state(k + 1));
        state(kOrder - 1) = -filter(kOrder - 1) * value;
        place = value;
      }
      __syncwarp();
      if (sample < shape.frame) {
#pragma unroll kAhead
        for (int r = 0; r < kSide; ++r)
          if (first_row + r < shape.rows())
            frames[(first_row + r) * shape.frame + sample] = square[r][lane];
      }
    }
  }
}

// A thread adds the frames over its output in ascending order, faded or as they are, with the
// rounding errors kept (Accumulator).
template <bool kFaded, typename T>
__global__ void __launch_bounds__(kFadeThreads, 4)
    add_frames(const T* __restrict__ frames, PoleShape shape, int64_t blocks,
               T* __restrict__ signal) {
  for (int64_t i = blockIdx.x; i < shape.batch * blocks; i += gridDim.x) {
    const int64_t item = i / blocks, sample = (i - item * blocks) * kFadeThreads + threadIdx.x;
    if (sample >= shape.samples()) continue;
    const int64_t last = sample / shape.hop;
    const int64_t first = sample < shape.frame ? 0 : (sample - shape.frame) / shape.hop + 1;
    Accumulator<T> sum;
    for (int64_t t = first; t <= last; ++t) {
      const int64_t n = sample - t * shape.hop;
      const T value = frames[(item * shape.frames + t) * shape.frame + n];
      if (!kFaded || is_whole(t, n, shape.frame))
        sum.add(value);
      else
        sum.add_product(hann<T>(n, shape.frame), value);
    }
    signal[item * shape.samples() + sample] = sum.template total<T>();
  }
}

// A block takes a frame, its warps the lags in turn.
template <typename T>
__global__ void __launch_bounds__(kLagThreads, 4)
    correlate_frames(const T* __restrict__ flow, const T* __restrict__ filtered, PoleShape shape,
                     T* __restrict__ grad) {
  const int64_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int64_t row = blockIdx.x; row < shape.rows(); row += gridDim.x) {
    const T *u = flow + row * shape.frame, *y = filtered + row * shape.frame;
    for (int64_t k = 1 + warp; k <= shape.order; k += kLagThreads / kWarp) {
      Accumulator<T> sum;
      for (int64_t n = k + lane; n < shape.frame; n += kWarp) sum.add_product(u[n], y[n - k]);
      const double total = warp_reduce(sum.template total<double>());
      if (lane == 0) grad[row * shape.order + k - 1] = T(-total);
    }
  }
}

template <bool kBack, typename T>
cudaError_t filter_in(const T* signal, const T* coefficients, const PoleShape& shape, T* frames,
                      cudaStream_t stream) {
  const auto kernel = [&] {
    switch (all_pole_order(shape.order)) {
      case 10:
        return filter_frames<10, kBack, T>;
      case 20:
        return filter_frames<20, kBack, T>;
      case 32:
        return filter_frames<32, kBack, T>;
      default:
        return filter_frames<64, kBack, T>;
    }
  }();
  return launch(kernel, all_pole_filter_grid(shape.rows()), stream, signal, coefficients, shape,
                frames);
}

template <bool kFaded, typename T>
cudaError_t add_in(const T* frames, const PoleShape& shape, T* signal, cudaStream_t stream) {
  return launch(add_frames<kFaded, T>, all_pole_sum_grid(shape.batch, shape.samples()), stream,
                frames, shape, all_pole_blocks(shape.samples()), signal);
}

}  // namespace

template <typename T>
cudaError_t all_pole_forward(const T* signal, const T* coefficients, const PoleShape& shape,
                             T* filtered, T* result, cudaStream_t stream) {
  const cudaError_t error = filter_in<false>(signal, coefficients, shape, filtered, stream);
  return error != cudaSuccess ? error : add_in<true>(filtered, shape, result, stream);
}

template <typename T>
cudaError_t all_pole_backward(const T* grad, const T* coefficients, const T* filtered,
                              const PoleShape& shape, T* flow, T* grad_signal, T* grad_coefficients,
                              cudaStream_t stream) {
  cudaError_t error = filter_in<true>(grad, coefficients, shape, flow, stream);
  if (error == cudaSuccess) error = add_in<false>(flow, shape, grad_signal, stream);
  if (error != cudaSuccess) return error;
  return launch(correlate_frames<T>, all_pole_lag_grid(shape.rows(), shape.order), stream, flow,
                filtered, shape, grad_coefficients);
}

#define RLSV_INSTANTIATE(T)                                                                     \
  template cudaError_t all_pole_forward<T>(const T*, const T*, const PoleShape&, T*, T*,        \
                                           cudaStream_t);                                       \
  template cudaError_t all_pole_backward<T>(const T*, const T*, const T*, const PoleShape&, T*, \
                                            T*, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
