// Neighbouring numbers moved at once: 16 bytes where the data are aligned, else one number.
#pragma once

#include "kernel.cuh"

namespace rlsv_fast::cuda {

// kWidth is Pack<T>::kLanes or 1.
template <int kWidth, typename T>
struct alignas(kWidth * sizeof(T)) Lanes {
  T lane[kWidth];
};

template <int kWidth, typename T>
__device__ __forceinline__ Lanes<kWidth, T> load_lanes(const T* from) {
  return *reinterpret_cast<const Lanes<kWidth, T>*>(from);
}

template <int kWidth, typename T>
__device__ __forceinline__ void store_lanes(const Lanes<kWidth, T>& lanes, T* to) {
  *reinterpret_cast<Lanes<kWidth, T>*>(to) = lanes;
}

template <int kWidth, typename T>
__device__ __forceinline__ Lanes<kWidth, T> no_lanes() {
  Lanes<kWidth, T> zeros;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) zeros.lane[i] = T(0);
  return zeros;
}

}  // namespace rlsv_fast::cuda
