// The mathematics of single samples of harmonic_bank. With half = phase / 2 and s = sin(half),
//   D_K  = sum_{k <= K} sin(k phase)   = sin(K half) sin((K + 1) half) / s
//   D'_K = sum_{k <= K} k cos(k phase) = ((K + 1/2) sin((2 K + 1) half) / s - 1/2
//                                         - D_K cos(half) / s) / 2
// and D_K = 0, D'_K = K (K + 1) / 2 where s = 0. Multiples of angles are exact (see Angle), sines
// exact relative to themselves, and so are the quotients near s = 0.
#pragma once

#include "../turns.h"
#include "harmonic_bank.h"
#include "kernel.cuh"

namespace rlsv_fast::cuda {

constexpr int64_t kAnchor = 8;  // harmonics after which rotation begins anew

// `number` times an angle, in turns in [-1/2, 1/2].
__device__ __forceinline__ float times(int32_t number, int32_t angle) {
  return float(int32_t(uint32_t(number) * uint32_t(angle))) * 2.3283064365386962891e-10f;
}
__device__ __forceinline__ double times(int32_t number, double angle) {
  double turns = double(number) * angle;
  reduce_turns<double>(turns);
  return turns;
}

__device__ __forceinline__ int32_t halve(int32_t angle) { return angle >> 1; }
__device__ __forceinline__ double halve(double angle) { return 0.5 * angle; }

template <typename T>
struct Dirichlet {
  typename Angle<T>::type half;
  bool zero;
  T cosine_half, inverse;  // 1 / s, infinite where it is 0

  __device__ __forceinline__ explicit Dirichlet(typename Angle<T>::type angle)
      : half(halve(angle)),
        zero(half == 0),
        cosine_half(cosine_turns(times(1, half))),
        inverse(T(1) / sine_turns(times(1, half))) {}

  __device__ __forceinline__ T value(int32_t count) const {
    const T sum = sine_turns(times(count, half)) * inverse * sine_turns(times(count + 1, half));
    return zero ? T(0) : sum;
  }
  // The derivative by the phase, beside the value.
  __device__ __forceinline__ T slope(int32_t count, T value) const {
    const T odd = sine_turns(times(2 * count + 1, half)), number = T(count);
    const T slope =
        T(0.5) * ((number + T(0.5)) * odd * inverse - T(0.5) - value * cosine_half * inverse);
    return zero ? T(0.5) * number * (number + T(1)) : slope;
  }
};

// Calls body(k, sine, cosine) for k = 1 .. most with those of k times a phase: by rotation.
template <typename T, typename Body>
__device__ __forceinline__ void each_harmonic(typename Angle<T>::type angle, int32_t most,
                                              const Body& body) {
  const T s1 = sine_turns(times(1, angle)), c1 = cosine_turns(times(1, angle));
  for (int32_t first = 1; first <= most; first += kAnchor) {
    T s = sine_turns(times(first, angle)), c = cosine_turns(times(first, angle));
    const int32_t end = most + 1 - first < kAnchor ? most + 1 : first + int32_t(kAnchor);
    for (int32_t k = first; k < end; ++k) {
      body(k, s, c);
      const T turned = s * c1 + c * s1;
      c = c * c1 - s * s1;
      s = turned;
    }
  }
}

// Audible harmonics at sample u of a piece.
__device__ __forceinline__ int32_t count_at(const BankPiece& piece, const BankShape& shape,
                                            int64_t u) {
  if (piece.first_count == piece.last_count) return piece.first_count;
  return int32_t(audible(piece.at(u), shape.nyquist(), shape.harmonics));
}

// The window by which the next frame fades in, at sample m of a frame.
template <typename T>
__device__ __forceinline__ T fading_in(int64_t m, int64_t hop) {
  const T sine = sine_turns(T(0.25) * (T(m) / T(hop)));
  return sine * sine;
}

// Two frames in turn: amplitudes, and how many harmonics are audible at each. Amplitudes of the
// closed form are spread over them.
template <typename T>
struct Neighbours {
  const T *here, *later;
  int32_t here_count, later_count;

  __device__ __forceinline__ Neighbours(const HarmonicBank<T>& in, const BankPiece* pieces,
                                        int64_t row) {
    const int64_t next = (row + 1) % in.shape.frames != 0 ? row + 1 : row;
    const int64_t size = in.closed ? 1 : in.shape.harmonics;
    here = in.amplitude + row * size;
    later = in.amplitude + next * size;
    here_count = pieces[2 * row].frame_count;
    later_count = pieces[2 * next].frame_count;
  }
  __device__ __forceinline__ static T spread(T amplitude, int32_t count) {
    return count > 0 ? T(double(amplitude) / double(count)) : T(0);
  }
  __device__ __forceinline__ static int32_t fewer(int32_t first, int32_t second) {
    return first < second ? first : second;
  }
  // Harmonics that are audible at a sample and at either frame.
  __device__ __forceinline__ int32_t most(int32_t count) const {
    return fewer(count, here_count < later_count ? later_count : here_count);
  }
};

}  // namespace rlsv_fast::cuda
