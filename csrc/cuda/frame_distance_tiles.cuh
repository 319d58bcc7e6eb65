// What the two tiled kernels of the frame distance share: frames in fours, magnitudes.
#pragma once

#include "kernel.cuh"

namespace rlsv_fast::cuda {

constexpr int kFrameChain = 64;  // terms added in T before they join the running sum

// Four frames, loaded and stored in packs of 16 bytes.
template <typename T>
struct alignas(16) Quad {
  T lane[4];
};

template <typename T>
__device__ __forceinline__ Quad<T> load_quad(const T* from) {
  return *reinterpret_cast<const Quad<T>*>(from);
}
template <typename T>
__device__ __forceinline__ Quad<T> load_quad(const T* from, bool inside) {
  if (inside) return load_quad(from);
  return Quad<T>{};
}
template <typename T>
__device__ __forceinline__ void store_quad(T* to, const Quad<T>& quad) {
  *reinterpret_cast<Quad<T>*>(to) = quad;
}

__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }

}  // namespace rlsv_fast::cuda
