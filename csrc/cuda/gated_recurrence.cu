// The recurrent part of a gated layer, for items b, frames t and units i < H, of projected inputs
// x (B, T, 3H), weights W (3H, H), biases v (3H) and the state h of the frame before, at first 0:
//   r = s(x_i + W_i h + v_i)      z = s(x_(H+i) + W_(H+i) h + v_(H+i))     s(a) = 1 / (1 + e^-a)
//   c = W_(2H+i) h + v_(2H+i)     n = tanh(x_(2H+i) + r c)                 h'_i = n + z (h_i - n)
// The gradient of a state, upstream and from the frame after, becomes that of the sums before the
// gates as in gated_recurrence_rules.h, and from dr, dz and dc follows that of the state before:
//   dh_k = G_k z_k + sum_i  dr_i W_ik + dz_i W_(H+i)k + dc_i W_(2H+i)k
// Frames come one after the other, each a launch; each reads all weights, from the second-level
// cache.
//
// Floors on an H200 at B = 60, T = 250, H = 512 in float32 (33.5e12 multiply-adds/s; 4.3 TB/s):
//   forward   250 frames of 47 M multiply-adds: 352 us    reads x, writes h, r, z, n, c: 57 us
//   backward  the same: 352 us                            reads G, h, r, z, n, c, writes dx, dc: 72
//   us
// With few items the launches, some 2 us each, are what takes the time.
#include "../gated_recurrence_rules.h"
#include "gated_recurrence.h"
#include "gated_recurrence_grid.h"
#include "kernel.cuh"
#include "reduce.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr int kItems = int(kGateItems), kUnits = int(kGateUnits), kColumns = int(kGateColumns),
              kParts = int(kGateParts);
static_assert(kItems <= kColumns && kItems <= kParts, "a lane, or a warp, for each item of a tile");

template <typename T>
__device__ __forceinline__ T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

template <typename T>
__global__ void __launch_bounds__(kUnits* kWarp)
    advance(const T* __restrict__ projected, const T* __restrict__ weight,
            const T* __restrict__ bias, GateShape shape, int64_t frame, T* states,
            GateMemory<T> kept) {
  const int64_t size = shape.size, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t groups = (size + kUnits - 1) / kUnits, tiles = (shape.items + kItems - 1) / kItems;
  for (int64_t i = blockIdx.x; i < tiles * groups; i += gridDim.x) {
    const int64_t first = i / groups * kItems, unit = i % groups * kUnits + warp;
    if (unit >= size) continue;
    T sums[3][kItems] = {};
    if (frame > 0) {
      for (int64_t k = lane; k < size; k += kWarp) {
        T weights[3];
#pragma unroll
        for (int gate = 0; gate < 3; ++gate)
          weights[gate] = weight[(gate * size + unit) * size + k];
#pragma unroll
        for (int item = 0; item < kItems; ++item) {
          if (first + item >= shape.items) break;
          const T state = states[((first + item) * shape.frames + frame - 1) * size + k];
#pragma unroll
          for (int gate = 0; gate < 3; ++gate) sums[gate][item] += weights[gate] * state;
        }
      }
    }
    // Lane l keeps the sums of item l.
    T own[3] = {};
#pragma unroll
    for (int item = 0; item < kItems; ++item)
#pragma unroll
      for (int gate = 0; gate < 3; ++gate) {
        const T total = warp_reduce(sums[gate][item]);
        if (lane == item) own[gate] = total;
      }
    if (lane >= kItems || first + lane >= shape.items) continue;
    const int64_t row = (first + lane) * shape.frames + frame, at = row * size + unit;
    const T* inputs = projected + row * 3 * size + unit;
    const T reset = sigmoid(inputs[0] + (own[0] + bias[unit]));
    const T update = sigmoid(inputs[size] + (own[1] + bias[size + unit]));
    const T part = own[2] + bias[2 * size + unit];
    const T candidate = std::tanh(inputs[2 * size] + reset * part);
    const T state = frame > 0 ? states[at - size] : T(0);
    states[at] = candidate + update * (state - candidate);
    if (kept.gates == nullptr) continue;
    kept.gates[row * 2 * size + unit] = reset;
    kept.gates[row * 2 * size + size + unit] = update;
    kept.candidates[at] = candidate;
    kept.parts[at] = part;
  }
}

// The gradient of the states before `frame`, and what the gates there make of it.
template <typename T>
__global__ void __launch_bounds__(kColumns* kParts, 1)
    retreat(const T* __restrict__ grad, const T* __restrict__ weight, const T* __restrict__ states,
            GateMemory<const T> kept, GateShape shape, int64_t frame, T* flow, T* of_projected,
            T* of_parts) {
  __shared__ T partial[kParts][kItems][kColumns];
  const int64_t size = shape.size, column = threadIdx.x % kColumns, part = threadIdx.x / kColumns;
  const int64_t groups = (size + kColumns - 1) / kColumns,
                tiles = (shape.items + kItems - 1) / kItems, rows = 3 * size,
                share = (rows + kParts - 1) / kParts;
  for (int64_t i = blockIdx.x; i < tiles * groups; i += gridDim.x) {
    const int64_t first = i / groups * kItems, unit = i % groups * kColumns + column;
    if (frame < shape.frames) {
      T sums[kItems] = {};
      const int64_t end = (part + 1) * share < rows ? (part + 1) * share : rows;
      for (int64_t k = part * share; k < end && unit < size; ++k) {
        const T here = weight[k * size + unit];
#pragma unroll
        for (int item = 0; item < kItems; ++item) {
          if (first + item >= shape.items) break;
          const int64_t row = (first + item) * shape.frames + frame;
          sums[item] += here * (k < 2 * size ? of_projected[row * 3 * size + k]
                                             : of_parts[row * size + k - 2 * size]);
        }
      }
#pragma unroll
      for (int item = 0; item < kItems; ++item) partial[part][item][column] = sums[item];
    }
    __syncthreads();
    // Warp w has item w.
    if (part < kItems && first + part < shape.items && unit < size) {
      const int64_t item = first + part, row = item * shape.frames + frame - 1,
                    at = row * size + unit;
      T of_state = grad[at];
      if (frame < shape.frames) {
        T total = flow[item * size + unit];
        for (int k = 0; k < kParts; ++k) total += partial[k][part][column];
        of_state += total;
      }
      GateGradients<T> to;
      through_gates(of_state, frame > 1 ? states[at - size] : T(0),
                    kept.gates[row * 2 * size + unit], kept.gates[row * 2 * size + size + unit],
                    kept.candidates[at], kept.parts[at], to);
      of_projected[row * 3 * size + unit] = to.reset;
      of_projected[row * 3 * size + size + unit] = to.update;
      of_projected[row * 3 * size + 2 * size + unit] = to.candidate;
      of_parts[at] = to.part;
      flow[item * size + unit] = to.past;
    }
    __syncthreads();  // the next tile's sums come to the same place
  }
}

}  // namespace

template <typename T>
cudaError_t gated_recurrence_forward(const T* projected, const T* weight, const T* bias,
                                     const GateShape& shape, T* states, const GateMemory<T>& kept,
                                     cudaStream_t stream) {
  const Grid grid = gated_recurrence_forward_grid(shape.items, shape.size);
  cudaError_t error = cudaSuccess;
  for (int64_t frame = 0; frame < shape.frames && error == cudaSuccess; ++frame)
    error = launch(advance<T>, grid, stream, projected, weight, bias, shape, frame, states, kept);
  return error;
}

template <typename T>
cudaError_t gated_recurrence_backward(const T* grad, const T* weight, const T* states,
                                      const GateMemory<const T>& kept, const GateShape& shape,
                                      T* flow, T* of_projected, T* of_parts, cudaStream_t stream) {
  const Grid grid = gated_recurrence_backward_grid(shape.items, shape.size);
  cudaError_t error = cudaSuccess;
  for (int64_t frame = shape.frames; frame > 0 && error == cudaSuccess; --frame)
    error = launch(retreat<T>, grid, stream, grad, weight, states, kept, shape, frame, flow,
                   of_projected, of_parts);
  return error;
}

#define RLSV_INSTANTIATE(T)                                                                        \
  template cudaError_t gated_recurrence_forward<T>(const T*, const T*, const T*, const GateShape&, \
                                                   T*, const GateMemory<T>&, cudaStream_t);        \
  template cudaError_t gated_recurrence_backward<T>(const T*, const T*, const T*,                  \
                                                    const GateMemory<const T>&, const GateShape&,  \
                                                    T*, T*, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
