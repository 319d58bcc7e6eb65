// W[i, l] = b[c, l] cos(2 pi (f_c^p l + phi_c / 2 pi)),   c = order[i]
// and, with G the gradient of W and s[l] = -G[i, l] b[c, l] sin(...),
//   db[c, l] = G[i, l] cos(...)       dphi_c = sum_l s[l]       df_c = 2 pi p f_c^(p-1) sum_l l
//   s[l].
// A modulator with one row is shared: db[0, l] = sum_i G[i, l] cos(...).
//
// One block per row; floor: bytes (write W, read b; backward read G and b, write db). No double in
// the float kernels: the phase is a two-float product, see Carrier in turns.h.
#include "../turns.h"
#include "kernel.cuh"
#include "modulated_cosines.h"
#include "reduce.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr int kThreads = 256;
constexpr double kTwoPi = 6.283185307179586476925;

template <typename T>
__global__ void __launch_bounds__(kThreads) forward(ModulatedCosines<T> in, T* weights) {
  for (int64_t row = blockIdx.x; row < in.components; row += gridDim.x) {
    const int64_t c = in.order[row];
    const Carrier<T> carrier(in.frequency[c], in.phase[c], in.power);
    const T* envelope = in.modulator + (in.modulator_rows == 1 ? 0 : c * in.taps);
#pragma unroll 1  // unrolled, the double kernel spills
    for (int64_t tap = threadIdx.x; tap < in.taps; tap += kThreads)
      weights[row * in.taps + tap] = cosine_turns(carrier.at(tap)) * envelope[tap];
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward(ModulatedCosines<T> in, const T* grad, T* grad_frequency, T* grad_phase,
             T* grad_modulator) {
  __shared__ T scratch[kThreads / 32];
  for (int64_t row = blockIdx.x; row < in.components; row += gridDim.x) {
    const int64_t c = in.order[row];
    const Carrier<T> carrier(in.frequency[c], in.phase[c], in.power);
    const T* envelope = in.modulator + (in.modulator_rows == 1 ? 0 : c * in.taps);
    T by_phase = T(0), by_step = T(0);
    for (int64_t tap = threadIdx.x; tap < in.taps; tap += kThreads) {
      const T turns = carrier.at(tap), flow = grad[row * in.taps + tap];
      if (in.modulator_rows != 1) grad_modulator[c * in.taps + tap] = flow * cosine_turns(turns);
      const T slope = -flow * envelope[tap] * sine_turns(turns);
      by_phase += slope;
      by_step += slope * T(tap);
    }
    by_phase = block_reduce<kThreads>(by_phase, scratch);
    by_step = block_reduce<kThreads>(by_step, scratch);
    if (threadIdx.x == 0) {
      grad_phase[c] = by_phase;
      grad_frequency[c] = T(kTwoPi) * (in.power == 2 ? 2 * in.frequency[c] : T(1)) * by_step;
    }
  }
}

// One thread per tap of the shared modulator, rows added in order.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    backward_shared(ModulatedCosines<T> in, const T* grad, T* grad_modulator) {
  const int64_t stride = int64_t(gridDim.x) * kThreads;
  for (int64_t tap = int64_t(blockIdx.x) * kThreads + threadIdx.x; tap < in.taps; tap += stride) {
    T total = T(0);
    for (int64_t row = 0; row < in.components; ++row) {
      const int64_t c = in.order[row];
      const Carrier<T> carrier(in.frequency[c], in.phase[c], in.power);
      total += grad[row * in.taps + tap] * cosine_turns(carrier.at(tap));
    }
    grad_modulator[tap] = total;
  }
}

}  // namespace

template <typename T>
cudaError_t modulated_cosines_forward(const ModulatedCosines<T>& in, T* weights,
                                      cudaStream_t stream) {
  if (in.taps == 0) return cudaSuccess;
  return launch(forward<T>, Grid{std::min(in.components, kMaxBlocks), kThreads}, stream, in,
                weights);
}

template <typename T>
cudaError_t modulated_cosines_backward(const ModulatedCosines<T>& in, const T* grad,
                                       T* grad_frequency, T* grad_phase, T* grad_modulator,
                                       cudaStream_t stream) {
  const cudaError_t error = launch(backward<T>, Grid{std::min(in.components, kMaxBlocks), kThreads},
                                   stream, in, grad, grad_frequency, grad_phase, grad_modulator);
  if (error != cudaSuccess || in.modulator_rows != 1) return error;
  return launch(backward_shared<T>, Grid{divide_up(in.taps, kThreads), kThreads}, stream, in, grad,
                grad_modulator);
}

#define RLSV_INSTANTIATE(T)                                                                        \
  template cudaError_t modulated_cosines_forward<T>(const ModulatedCosines<T>&, T*, cudaStream_t); \
  template cudaError_t modulated_cosines_backward<T>(const ModulatedCosines<T>&, const T*, T*, T*, \
                                                     T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
