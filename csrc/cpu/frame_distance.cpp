// Pairwise distance of the frames of a representation A (B, C, T) (Sinkhorn-distance paper, eq. 6
// and supplement):
//   M[b, t, t'] = ( sum_c |a[c, t] - a[c, t']|^p )^(1/p),   a = A normalised, p in {1, 2}
//   features: a[c, t] = A[c, t] / D[t],            D[t] = sum_c (A[c, t] + 1/C)
//   time:     a[c, t] = (A[c, t] + 1/C) / E[c],    E[c] = sum_t (A[c, t] + 1/C)
// Backward, G the gradient of M, S[t, t'] = G[t, t'] + G[t', t], 0 where t = t' or M = 0:
//   da[c, t] = sum_t' S[t, t'] sign(a[c, t] - a[c, t'])                       (p = 1)
//   da[c, t] = sum_t' S[t, t'] / M[t, t'] (a[c, t] - a[c, t'])                (p = 2)
//   features: dA[c, t] = (da[c, t] - sum_c' da[c', t] a[c', t]) / D[t]
//   time:     dA[c, t] = (da[c, t] - sum_t' da[c, t'] a[c, t']) / E[c]
//
// Nothing of size T x C x T exists: tiles of kTile rows x one vector of frames are accumulated in
// registers over the channels (forward) or the frames (backward). M is symmetric to the bit, so
// only its upper half is computed. The result does not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <vector>

#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/frame_distance.cpp"
#include "each_simd.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr int64_t kTile = 6;    // 6 accumulators fit the 16 registers of AVX2, too
constexpr int64_t kChain = 64;  // channels added in T before they join the running sum

// The normalised representation with frames padded to whole vectors, and its divisors.
template <typename T>
struct Frames {
  int64_t channels, frames, stride;  // stride = frames rounded up to whole vectors
  const T* values;                   // (C, stride) of one item
};

// Normalises one item: a (C, stride), zero in the padding; divisors D (T) or E (C).
template <typename T>
RLSV_INLINE void normalise_item(const T* source, int64_t channels, int64_t frames, int64_t stride,
                                int64_t normalize, T* values, T* divisors) {
  const double floor = 1.0 / double(channels);
  if (normalize == kFeatures) {
    std::vector<double> total(frames, 1.0);  // sum_c 1/C = 1
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t t = 0; t < frames; ++t) total[t] += source[c * frames + t];
    for (int64_t t = 0; t < frames; ++t) divisors[t] = T(total[t]);
  }
  for (int64_t c = 0; c < channels; ++c) {
    const T* from = source + c * frames;
    T* to = values + c * stride;
    if (normalize == kFeatures) {
      for (int64_t t = 0; t < frames; ++t) to[t] = from[t] / divisors[t];
    } else if (normalize == kTime) {
      double total = 0;
      for (int64_t t = 0; t < frames; ++t) total += from[t];
      divisors[c] = T(total + double(frames) * floor);
      for (int64_t t = 0; t < frames; ++t) to[t] = (from[t] + T(floor)) / divisors[c];
    } else {
      for (int64_t t = 0; t < frames; ++t) to[t] = from[t];
    }
    std::fill(to + frames, to + stride, T(0));
  }
}

template <int64_t P, typename T>
RLSV_INLINE void accumulate(const Vec<T>& difference, Vec<T>& total) {
  if constexpr (P == 1) {
    Vec<T> magnitude;
    absolute<T>(difference, magnitude);
    total += magnitude;
  } else {
    total += difference * difference;
  }
}

// Rows [first, first + kTile) of M against frames t' >= first; each pair is written once, to both
// places. Rows past the last frame repeat it and are dropped.
template <int64_t P, typename T>
RLSV_INLINE void distance_tiles(const Frames<T>& in, int64_t first, T* distance) {
  const int64_t rows = std::min(kTile, in.frames - first);
  for (int64_t block = first / kLanes<T> * kLanes<T>; block < in.frames; block += kLanes<T>) {
    Vec<T> total[kTile] = {};
    for (int64_t begin = 0; begin < in.channels; begin += kChain) {
      const int64_t end = std::min(begin + kChain, in.channels);
      Vec<T> part[kTile] = {};
      for (int64_t c = begin; c < end; ++c) {
        const T* row = in.values + c * in.stride;
        Vec<T> others;
        load(row + block, others);
#pragma GCC unroll 6
        for (int64_t r = 0; r < kTile; ++r)
          accumulate<P, T>(others - row[first + std::min(r, rows - 1)], part[r]);
      }
      for (int64_t r = 0; r < kTile; ++r) total[r] += part[r];
    }
    for (int64_t r = 0; r < rows; ++r) {
      T lanes[kLanes<T>];
      store(total[r], lanes);
      const int64_t t = first + r, last = std::min(block + kLanes<T>, in.frames);
      for (int64_t other = std::max(block, t); other < last; ++other) {
        const T value = P == 1 ? lanes[other - block] : std::sqrt(lanes[other - block]);
        distance[t * in.frames + other] = value;
        distance[other * in.frames + t] = value;
      }
    }
  }
}

template <typename T>
void distance_rows(const Frames<T>& in, int64_t p, int64_t first, T* distance) {
  if (p == 1) return distance_tiles<1>(in, first, distance);
  distance_tiles<2>(in, first, distance);
}

// The symmetric weights S (p = 1) or S / M (p = 2) of one row, zero in the padding.
template <typename T>
RLSV_INLINE void weight_row(const T* grad, const T* distance, int64_t p, int64_t t, int64_t frames,
                            int64_t stride, T* weights) {
  for (int64_t other = 0; other < frames; ++other) {
    const T both = grad[t * frames + other] + grad[other * frames + t];
    const T length = distance[t * frames + other];
    weights[other] = length == T(0) ? T(0) : (p == 1 ? both : both / length);
  }
  weights[t] = T(0);
  std::fill(weights + frames, weights + stride, T(0));
}

// da of channels [first, first + kTile) of one item.
template <int64_t P, typename T>
RLSV_INLINE void gradient_tiles(const Frames<T>& in, const T* weights, int64_t first, T* gradient) {
  const int64_t rows = std::min(kTile, in.channels - first);
  for (int64_t block = 0; block < in.stride; block += kLanes<T>) {
    const T* channel[kTile];
    Vec<T> own[kTile], total[kTile] = {};
    for (int64_t r = 0; r < kTile; ++r) {
      channel[r] = in.values + (first + std::min(r, rows - 1)) * in.stride;
      load(channel[r] + block, own[r]);
    }
    for (int64_t begin = 0; begin < in.frames; begin += kChain) {
      const int64_t end = std::min(begin + kChain, in.frames);
      Vec<T> part[kTile] = {};
      for (int64_t other = begin; other < end; ++other) {
        Vec<T> weight;
        load(weights + other * in.stride + block, weight);
#pragma GCC unroll 6
        for (int64_t r = 0; r < kTile; ++r) {
          const T value = channel[r][other];
          if constexpr (P == 1) {
            // Written so that AVX-512 needs a compare and a masked addition each.
            part[r] = own[r] > value ? part[r] + weight : part[r];
            part[r] = own[r] < value ? part[r] - weight : part[r];
          } else {
            part[r] += weight * (own[r] - value);
          }
        }
      }
      for (int64_t r = 0; r < kTile; ++r) total[r] += part[r];
    }
    for (int64_t r = 0; r < rows; ++r) store(total[r], gradient + (first + r) * in.stride + block);
  }
}

template <typename T>
void gradient_rows(const Frames<T>& in, const T* weights, int64_t p, int64_t first, T* gradient) {
  if (p == 1) return gradient_tiles<1>(in, weights, first, gradient);
  gradient_tiles<2>(in, weights, first, gradient);
}

// From da (C, stride) to dA (C, T) of one item.
template <typename T>
RLSV_INLINE void denormalise_item(const Frames<T>& in, const T* gradient, const T* divisors,
                                  int64_t normalize, T* result) {
  std::vector<double> inner(normalize == kFeatures ? in.frames : 0, 0.0);
  if (normalize == kFeatures)
    for (int64_t c = 0; c < in.channels; ++c)
      for (int64_t t = 0; t < in.frames; ++t)
        inner[t] += double(gradient[c * in.stride + t]) * double(in.values[c * in.stride + t]);
  for (int64_t c = 0; c < in.channels; ++c) {
    const T *from = gradient + c * in.stride, *value = in.values + c * in.stride;
    T* to = result + c * in.frames;
    if (normalize == kFeatures) {
      for (int64_t t = 0; t < in.frames; ++t) to[t] = (from[t] - T(inner[t])) / divisors[t];
    } else if (normalize == kTime) {
      double total = 0;
      for (int64_t t = 0; t < in.frames; ++t) total += double(from[t]) * double(value[t]);
      for (int64_t t = 0; t < in.frames; ++t) to[t] = (from[t] - T(total)) / divisors[c];
    } else {
      for (int64_t t = 0; t < in.frames; ++t) to[t] = from[t];
    }
  }
}

// The whole batch normalised: a (B, C, stride) and divisors (B, T or C).
template <typename T>
struct Normalised {
  int64_t batch, channels, frames, stride, divisor_count;
  Tensor values, divisors;

  Normalised(const Tensor& representation, int64_t normalize)
      : batch(representation.size(0)),
        channels(representation.size(1)),
        frames(representation.size(2)),
        stride((frames + kLanes<T> - 1) / kLanes<T> * kLanes<T>),
        divisor_count(normalize == kTime ? channels : frames),
        values(torch::stable::new_empty(representation, {batch, channels, stride})),
        divisors(torch::stable::new_empty(representation, {batch, divisor_count})) {
    const T* source = read<T>(representation);
    T *to = write<T>(values), *scale = write<T>(divisors);
    parallel(batch, channels * frames, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b)
        normalise_item(source + b * channels * frames, channels, frames, stride, normalize,
                       to + b * channels * stride, scale + b * divisor_count);
    });
  }

  Frames<T> item(int64_t b) const {
    return {channels, frames, stride, read<T>(values) + b * channels * stride};
  }
};

Tensor frame_distance_forward(const Tensor& representation, int64_t p, int64_t normalize) {
  check_frame_distance(representation, p, normalize);
  const int64_t batch = representation.size(0), frames = representation.size(2);
  Tensor distance = torch::stable::new_empty(representation, {batch, frames, frames});
  dispatch_floating(representation, "frame_distance", [&](auto zero) {
    using T = decltype(zero);
    const Normalised<T> in(representation, normalize);
    T* out = write<T>(distance);
    const int64_t blocks = (frames + kTile - 1) / kTile;
    parallel(batch * blocks, kTile * in.channels * frames / 2, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) {
        // Long and short rows of the triangle in turn, so that threads get equal shares.
        const int64_t b = index / blocks, turn = index % blocks;
        const int64_t block = turn % 2 ? blocks - 1 - turn / 2 : turn / 2;
        distance_rows(in.item(b), p, block * kTile, out + b * frames * frames);
      }
    });
  });
  return distance;
}

Tensor frame_distance_backward(const Tensor& grad, const Tensor& representation,
                               const Tensor& distance, int64_t p, int64_t normalize) {
  check_frame_distance_backward(grad, representation, distance, p, normalize);
  const int64_t batch = representation.size(0), channels = representation.size(1);
  const int64_t frames = representation.size(2);
  Tensor result = torch::stable::new_empty(representation, {batch, channels, frames});
  dispatch_floating(representation, "frame_distance", [&](auto zero) {
    using T = decltype(zero);
    const Normalised<T> in(representation, normalize);
    Tensor weights = torch::stable::new_empty(grad, {batch, frames, in.stride});
    Tensor gradient = torch::stable::new_empty(representation, {batch, channels, in.stride});
    const T *upstream = read<T>(grad), *lengths = read<T>(distance);
    T *weight = write<T>(weights), *inner = write<T>(gradient), *out = write<T>(result);
    parallel(batch * frames, frames, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t item = row / frames * frames * frames;
        weight_row(upstream + item, lengths + item, p, row % frames, frames, in.stride,
                   weight + row * in.stride);
      }
    });
    const int64_t blocks = (channels + kTile - 1) / kTile;
    parallel(batch * blocks, kTile * frames * frames, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) {
        const int64_t b = index / blocks;
        gradient_rows(in.item(b), weight + b * frames * in.stride, p, index % blocks * kTile,
                      inner + b * channels * in.stride);
      }
    });
    const T* divisors = read<T>(in.divisors);
    parallel(batch, channels * frames, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b)
        denormalise_item(in.item(b), inner + b * channels * in.stride,
                         divisors + b * in.divisor_count, normalize, out + b * channels * frames);
    });
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_frame_distance_forward", frame_distance_forward);
  RLSV_IMPL(m, "_frame_distance_backward", frame_distance_backward);
}
#endif
