// W[i, l] = b[c, l] cos(2 pi (f_c^p l + phi_c / 2 pi)),   c = order[i]
// and, with G the gradient of W and s[l] = -G[i, l] b[c, l] sin(...),
//   db[c, l] = G[i, l] cos(...)       dphi_c = sum_l s[l]       df_c = 2 pi p f_c^(p-1) sum_l l
//   s[l].
// A modulator with one row is shared: db[0, l] = sum_i G[i, l] cos(...), chunks of rows first.
// No double in the float kernels: the phase is a two-float product, see Carrier in turns.h.
//
// Floors on an H200 at C = 800, L = 2048 in float32 (4.3 TB/s; 33.5e12 instructions/s):
//   forward   reads b, writes W: 13.1 MB, 3.0 us         22 instructions a number: 1.1 us
//   backward  reads G and b, writes db: 19.7 MB, 4.6 us   47 instructions a number: 2.3 us
#include "../turns.h"
#include "lanes.cuh"
#include "modulated_cosines.h"
#include "reduce.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr int kThreads = kCosineThreads;
constexpr double kTwoPi = 6.283185307179586476925;

template <typename T>
__device__ __forceinline__ Carrier<T> carrier_of(const ModulatedCosines<T>& in, int64_t component) {
  return Carrier<T>(in.frequency[component], in.phase[component], in.power);
}

template <typename T>
__device__ __forceinline__ const T* modulator_of(const ModulatedCosines<T>& in, int64_t component) {
  return in.modulator + (in.modulator_rows == 1 ? 0 : component * in.taps);
}

// A block takes a piece of a row.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    forward(ModulatedCosines<T> in, int64_t pieces, T* __restrict__ weights) {
  constexpr int kPacks = kCosineTaps / (kThreads * kWidth);
  for (int64_t i = blockIdx.x; i < in.components * pieces; i += gridDim.x) {
    const int64_t row = i / pieces, c = in.order[row];
    const int64_t begin = (i - row * pieces) * kCosineTaps + threadIdx.x * kWidth;
    const T* modulator = modulator_of(in, c);
    Lanes<kWidth, T> gain[kPacks];
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      const int64_t tap = begin + k * kThreads * kWidth;
      gain[k] = tap < in.taps ? load_lanes<kWidth>(modulator + tap) : no_lanes<kWidth, T>();
    }
    const Carrier<T> carrier = carrier_of(in, c);
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      const int64_t tap = begin + k * kThreads * kWidth;
      if (tap >= in.taps) break;
#pragma unroll
      for (int lane = 0; lane < kWidth; ++lane)
        gain[k].lane[lane] *= cosine_turns(carrier.at(T(tap) + T(lane)));
      store_lanes(gain[k], weights + row * in.taps + tap);
    }
  }
}

// A block takes a row.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    backward(ModulatedCosines<T> in, const T* __restrict__ grad, T* grad_frequency, T* grad_phase,
             T* __restrict__ grad_modulator) {
  constexpr int kPacks = 2, kStep = kThreads * kWidth;
  __shared__ T scratch[kThreads / kWarp];
  for (int64_t row = blockIdx.x; row < in.components; row += gridDim.x) {
    const int64_t c = in.order[row];
    const Carrier<T> carrier = carrier_of(in, c);
    const T* modulator = modulator_of(in, c);
    T by_phase = T(0), by_step = T(0);
    for (int64_t first = threadIdx.x * kWidth; first < in.taps; first += kPacks * kStep) {
      Lanes<kWidth, T> flow[kPacks], gain[kPacks];
#pragma unroll
      for (int k = 0; k < kPacks; ++k) {
        const int64_t tap = first + k * kStep;
        flow[k] = gain[k] = no_lanes<kWidth, T>();
        if (tap < in.taps) {
          flow[k] = load_lanes<kWidth>(grad + row * in.taps + tap);
          gain[k] = load_lanes<kWidth>(modulator + tap);
        }
      }
#pragma unroll
      for (int k = 0; k < kPacks; ++k) {
        const int64_t tap = first + k * kStep;
        T slopes = T(0), steps = T(0);
#pragma unroll
        for (int lane = 0; lane < kWidth; ++lane) {
          const T at = T(tap) + T(lane), turns = carrier.at(at);
          const T slope = flow[k].lane[lane] * gain[k].lane[lane] * sine_turns(turns);
          slopes += slope;
          steps += slope * at;
          flow[k].lane[lane] *= cosine_turns(turns);
        }
        by_phase -= slopes;
        by_step -= steps;
        if (in.modulator_rows != 1 && tap < in.taps)
          store_lanes(flow[k], grad_modulator + c * in.taps + tap);
      }
    }
    by_phase = block_reduce<kThreads>(by_phase, scratch);
    by_step = block_reduce<kThreads>(by_step, scratch);
    if (threadIdx.x == 0) {
      const double chain = in.power == 2 ? 2.0 * double(in.frequency[c]) : 1.0;
      grad_phase[c] = by_phase;
      grad_frequency[c] = T(kTwoPi * chain * double(by_step));
    }
  }
}

// The shared modulator's gradient from chunks of `chunk` rows: a block takes a piece of one.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads)
    backward_chunks(ModulatedCosines<T> in, const T* __restrict__ grad, int64_t chunk,
                    int64_t chunks, int64_t pieces, T* __restrict__ partials) {
  for (int64_t i = blockIdx.x; i < chunks * pieces; i += gridDim.x) {
    const int64_t index = i / pieces;
    const int64_t tap = ((i - index * pieces) * kThreads + threadIdx.x) * kWidth;
    if (tap >= in.taps) continue;
    const int64_t begin = index * chunk;
    const int64_t end = begin + chunk < in.components ? begin + chunk : in.components;
    Lanes<kWidth, T> total = no_lanes<kWidth, T>();
#pragma unroll 2
    for (int64_t row = begin; row < end; ++row) {
      const Lanes<kWidth, T> flow = load_lanes<kWidth>(grad + row * in.taps + tap);
      const Carrier<T> carrier = carrier_of(in, in.order[row]);
#pragma unroll
      for (int lane = 0; lane < kWidth; ++lane)
        total.lane[lane] += flow.lane[lane] * cosine_turns(carrier.at(T(tap) + T(lane)));
    }
    store_lanes(total, partials + index * in.taps + tap);
  }
}

// Chunks added in order, in double: one addition per chunk and tap.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    add_chunks(const T* partials, int64_t chunks, int64_t taps, T* grad_modulator) {
  const int64_t stride = int64_t(gridDim.x) * kThreads;
  for (int64_t tap = int64_t(blockIdx.x) * kThreads + threadIdx.x; tap < taps; tap += stride) {
    double total = 0.0;
#pragma unroll 8
    for (int64_t index = 0; index < chunks; ++index) total += double(partials[index * taps + tap]);
    grad_modulator[tap] = T(total);
  }
}

template <int kWidth, typename T>
cudaError_t backward_in(const ModulatedCosines<T>& in, const T* grad, T* partials,
                        T* grad_frequency, T* grad_phase, T* grad_modulator, cudaStream_t stream) {
  cudaError_t error = launch(backward<kWidth, T>, modulated_cosines_backward_grid(in.components),
                             stream, in, grad, grad_frequency, grad_phase, grad_modulator);
  if (error != cudaSuccess || in.modulator_rows != 1) return error;
  const int64_t chunks = modulated_cosines_chunks(in.components);
  error = launch(backward_chunks<kWidth, T>,
                 modulated_cosines_partial_grid(in.components, in.taps, kWidth), stream, in, grad,
                 modulated_cosines_chunk(in.components), chunks,
                 divide_up(in.taps, kThreads * kWidth), partials);
  if (error != cudaSuccess) return error;
  return launch(add_chunks<T>, modulated_cosines_total_grid(in.taps), stream, partials, chunks,
                in.taps, grad_modulator);
}

}  // namespace

template <typename T>
cudaError_t modulated_cosines_forward(const ModulatedCosines<T>& in, T* weights,
                                      cudaStream_t stream) {
  const bool packs = packable(in.modulator, in.taps) && packable(weights, in.taps);
  return launch(packs ? forward<Pack<T>::kLanes, T> : forward<1, T>,
                modulated_cosines_forward_grid(in.components, in.taps), stream, in,
                divide_up(in.taps, kCosineTaps), weights);
}

template <typename T>
cudaError_t modulated_cosines_backward(const ModulatedCosines<T>& in, const T* grad, T* partials,
                                       T* grad_frequency, T* grad_phase, T* grad_modulator,
                                       cudaStream_t stream) {
  const bool packs = packable(in.modulator, in.taps) && packable(grad, in.taps) &&
                     packable(partials, in.taps) && packable(grad_modulator, in.taps);
  return (packs ? backward_in<Pack<T>::kLanes, T> : backward_in<1, T>)(in, grad, partials,
                                                                       grad_frequency, grad_phase,
                                                                       grad_modulator, stream);
}

#define RLSV_INSTANTIATE(T)                                                                        \
  template cudaError_t modulated_cosines_forward<T>(const ModulatedCosines<T>&, T*, cudaStream_t); \
  template cudaError_t modulated_cosines_backward<T>(const ModulatedCosines<T>&, const T*, T*, T*, \
                                                     T*, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
