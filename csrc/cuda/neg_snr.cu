// v = -10 log10( S / (E + e) + e ),   S = sum x^2,   E = sum (x - y)^2,   e = 1e-24
// for target x and estimate y, sums over one row; and, with G the gradient of v,
//   dy = 2 G (dv/dE) (y - x)       dx = 2 G (dv/dS) x - dy
//
// Energies of float samples are summed without doubles (Accumulator), yet about as exactly; their
// squares are floats, so samples below 1e-22 or above 1e18 are out of range.
//
// Floors on an H200 at B = 8, N = 44100 in float32 (4.3 TB/s; 33.5e12 instructions/s):
//   forward   reads x and y: 2.8 MB, 0.7 us             22 instructions a sample: 0.2 us
//   backward  and writes dx and dy: 5.6 MB, 1.3 us      4 instructions a sample: 0.1 us
#include "../decibels.h"
#include "neg_snr.h"
#include "sums.cuh"

namespace rlsv_fast::cuda {
namespace {

template <int kWidth, typename T>
__global__ void __launch_bounds__(kSumThreads)
    sum_energies(const T* estimate, const T* target, Chunks chunks, double* partials) {
  __shared__ double scratch[kSumThreads / kWarp];
  for (int64_t i = blockIdx.x; i < chunks.total; i += gridDim.x) {
    Accumulator<T> signal, error;
    visit_pairs<kWidth>(
        estimate, target, Chunk(chunks, i), [] {},
        [&](T y, T x) {
          signal.add_product(x, x);
          error.add_product(x - y, x - y);
        });
    const double sums[] = {block_sum(signal.template total<double>(), scratch),
                           block_sum(error.template total<double>(), scratch)};
    if (threadIdx.x == 0) {
      partials[2 * i] = sums[0];
      partials[2 * i + 1] = sums[1];
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    value_of_rows(const double* partials, Chunks chunks, double* energies, T* value) {
  __shared__ double scratch[kSumThreads / kWarp];
  for (int64_t row = blockIdx.x; row < chunks.rows; row += gridDim.x) {
    const double* mine = partials + 2 * row * chunks.count;
    const double signal = add_partials(mine, chunks.count, 2, scratch);
    const double error = add_partials(mine + 1, chunks.count, 2, scratch);
    if (threadIdx.x == 0) {
      energies[2 * row] = signal;
      energies[2 * row + 1] = error;
      value[row] = T(-decibels(signal, error).value);
    }
  }
}

// A block takes one tile of a row: chunks.size is kTile. grad_target may be null.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kSumThreads)
    backward(const T* grad, const T* estimate, const T* target, const double* energies,
             Chunks tiles, T* grad_estimate, T* grad_target) {
  __shared__ T slopes[2];
  for (int64_t i = blockIdx.x; i < tiles.total; i += gridDim.x) {
    const Chunk chunk(tiles, i);
    Tile<kWidth, T> y, x;
    y.load(estimate + chunk.begin, chunk.length);
    x.load(target + chunk.begin, chunk.length);
    __syncthreads();  // slopes may still be read for the tile before
    if (threadIdx.x == 0) {
      const Decibels level = decibels(energies[2 * chunk.row], energies[2 * chunk.row + 1]);
      const double flow = -2.0 * double(grad[chunk.row]);
      slopes[0] = finite<T>(flow * level.by_signal);
      slopes[1] = finite<T>(flow * level.by_error);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < y.kShare; ++k) {
      const T by_estimate = (y[k] - x[k]) * slopes[1];
      x[k] = x[k] * slopes[0] - by_estimate;
      y[k] = by_estimate;
    }
    y.store(grad_estimate + chunk.begin, chunk.length);
    if (grad_target != nullptr) x.store(grad_target + chunk.begin, chunk.length);
  }
}

}  // namespace

template <typename T>
cudaError_t neg_snr_forward(const T* estimate, const T* target, const Chunks& rows,
                            double* partials, double* energies, T* value, cudaStream_t stream) {
  const bool packs = packable(estimate, rows.length) && packable(target, rows.length);
  const cudaError_t error = launch(packs ? sum_energies<Pack<T>::kLanes, T> : sum_energies<1, T>,
                                   sums_grid(rows.total), stream, estimate, target, rows, partials);
  if (error != cudaSuccess) return error;
  return launch(value_of_rows<T>, sums_grid(rows.rows), stream, partials, rows, energies, value);
}

template <typename T>
cudaError_t neg_snr_backward(const T* grad, const T* estimate, const T* target,
                             const double* energies, int64_t rows, int64_t length, T* grad_estimate,
                             T* grad_target, cudaStream_t stream) {
  const Chunks tiles = tile_rows(rows, length);
  const bool packs = packable(estimate, length) && packable(target, length) &&
                     packable(grad_estimate, length) && packable(grad_target, length);
  return launch(packs ? backward<Pack<T>::kLanes, T> : backward<1, T>, sums_grid(tiles.total),
                stream, grad, estimate, target, energies, tiles, grad_estimate, grad_target);
}

#define RLSV_INSTANTIATE(T)                                                                        \
  template cudaError_t neg_snr_forward<T>(const T*, const T*, const Chunks&, double*, double*, T*, \
                                          cudaStream_t);                                           \
  template cudaError_t neg_snr_backward<T>(const T*, const T*, const T*, const double*, int64_t,   \
                                           int64_t, T*, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
