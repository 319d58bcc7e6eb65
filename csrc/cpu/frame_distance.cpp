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
// Nothing of size T x C x T exists. Lanes are channels, and every pair t < t' is met once: its
// distance is summed over the vectors of channels in registers; in the gradient, its share is added
// to da[., t] and taken from da[., t'], one slab of kLanes channels at a time in the first cache.
// The result does not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>

#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/frame_distance.cpp"
#include "each_simd.h"
#include "frame_distance_pairs.h"
#include "frame_distance_slabs.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr int64_t kFrames = 64;  // summed over the channels together

// Calls body(b, loop) for every item of a batch, where loop(count, cost, step) calls
// step(begin, end) until [0, count) is done. A thread takes whole items, which stay in its cache,
// where all threads then have the same to do; otherwise they share every loop of every item.
template <typename Body>
void for_items(int64_t batch, int64_t cost, const Body& body) {
  const int64_t threads = torch::stable::get_num_threads();
  if (batch % threads == 0 || batch >= 4 * threads) {
    const auto alone = [](int64_t count, int64_t, const auto& step) { step(int64_t{0}, count); };
    parallel(batch, cost, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) body(b, alone);
    });
  } else {
    const auto shared = [](int64_t count, int64_t each, const auto& step) {
      parallel(count, each, step);
    };
    for (int64_t b = 0; b < batch; ++b) body(b, shared);
  }
}

template <typename T>
Frames<T> item_of(const Tensor& representation, int64_t b, int64_t normalize) {
  const int64_t channels = representation.size(1), frames = representation.size(2);
  return {read<T>(representation) + b * channels * frames, channels, frames, normalize};
}

template <typename T, typename Loop>
void invert(const Frames<T>& item, const Loop& loop, double* total, T* inverse) {
  if (item.normalize != kFeatures) return;
  loop((item.frames + kFrames - 1) / kFrames, kFrames * item.channels / kLanes<double>,
       [&](int64_t begin, int64_t end) {
         invert_frames(item, begin * kFrames, std::min(end * kFrames, item.frames), total, inverse);
       });
}

template <int64_t P, typename T, typename Loop>
void item_distance(const Frames<T>& item, const Loop& loop, T* distance) {
  const int64_t slabs = item.slabs(), padded = padded_to(item.frames, std::max(kLanes<T>, kBeside));
  Scratch<double> sums(padded);
  Scratch<T> scratch(padded * (1 + slabs * kLanes<T>));
  T *inverse = scratch.take(padded), *values = scratch.take(padded * slabs * kLanes<T>);
  invert(item, loop, sums.take(padded), inverse);
  loop(item.slabs(), 4 * item.frames, [&](int64_t begin, int64_t end) {
    for (int64_t slab = begin; slab < end; ++slab) {
      Vec<T> channel = {};
      if (item.normalize == kTime) invert_channels(item, slab, channel);
      normalise_slab(item, slab, inverse, channel, values, slab, slabs);
    }
  });
  const int64_t blocks = (item.frames + kTileColumns - 1) / kTileColumns;
  loop(blocks, kTileColumns * item.frames * item.slabs() / 2, [&](int64_t begin, int64_t end) {
    for (int64_t turn = begin; turn < end; ++turn) {
      // Long and short columns of the triangle in turn, so that threads get equal shares.
      const int64_t block = turn % 2 ? blocks - 1 - turn / 2 : turn / 2;
      distance_columns<P>(values, slabs, item.frames, block * kTileColumns, distance);
    }
  });
}

template <int64_t P, typename T, typename Loop>
void item_gradient(const Frames<T>& item, const T* grad, const T* distance, const Loop& loop,
                   T* result) {
  const int64_t padded = padded_to(item.frames, std::max(kLanes<T>, kGroup));
  const bool features = item.normalize == kFeatures;
  Scratch<double> sums(padded);
  Scratch<T> scratch(padded * (2 + padded + (features ? item.slabs() : 0)));
  T *inverse = scratch.take(padded), *inner = scratch.take(padded);
  T *weights = scratch.take(padded * padded), *products = scratch.take(padded * item.slabs());
  invert(item, loop, sums.take(padded), inverse);
  loop((item.frames + kLanes<T> - 1) / kLanes<T>, 4 * item.frames, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin * kLanes<T>; row < std::min(end * kLanes<T>, item.frames);
         row += kLanes<T>)
      weight_rows(grad, distance, P, item.frames, padded, row, weights);
  });
  loop(item.slabs(), 2 * item.frames * item.frames, [&](int64_t begin, int64_t end) {
    Scratch<T> slabs(2 * padded * kLanes<T>);
    T *values = slabs.take(padded * kLanes<T>), *gradient = slabs.take(padded * kLanes<T>);
    for (int64_t slab = begin; slab < end; ++slab) {
      Vec<T> channel = {};
      if (item.normalize == kTime) invert_channels(item, slab, channel);
      normalise_slab(item, slab, inverse, channel, values, 0, 1);
      gradient_slab<P>(values, weights, item.frames, padded, gradient);
      if (item.normalize == kTime) denormalise_channels(values, channel, item.frames, gradient);
      store_slab(item, slab, gradient, result, products + slab * padded);
    }
  });
  if (!features) return;
  add_products(item, products, padded, inverse, inner);
  loop(item.channels, item.frames / kLanes<T> + 1, [&](int64_t begin, int64_t end) {
    denormalise_frames(item, inner, inverse, begin, end, result);
  });
}

// Rough vector operations of one item's pairs.
template <typename T>
int64_t pairs_cost(const Tensor& representation) {
  const int64_t frames = representation.size(2);
  return frames * frames * (representation.size(1) / kLanes<T> + 1);
}

Tensor frame_distance_forward(const Tensor& representation, int64_t p, int64_t normalize) {
  check_frame_distance(representation, p, normalize);
  const int64_t batch = representation.size(0), frames = representation.size(2);
  Tensor distance = torch::stable::new_empty(representation, {batch, frames, frames});
  if (frames == 0) return distance;
  dispatch_floating(representation, "frame_distance", [&](auto zero) {
    using T = decltype(zero);
    T* out = write<T>(distance);
    for_items(batch, pairs_cost<T>(representation), [&](int64_t b, const auto& loop) {
      const Frames<T> item = item_of<T>(representation, b, normalize);
      if (p == 1) return item_distance<1>(item, loop, out + b * frames * frames);
      item_distance<2>(item, loop, out + b * frames * frames);
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
  if (channels == 0 || frames == 0) return result;
  dispatch_floating(representation, "frame_distance", [&](auto zero) {
    using T = decltype(zero);
    const T *upstream = read<T>(grad), *lengths = read<T>(distance);
    T* out = write<T>(result);
    for_items(batch, pairs_cost<T>(representation), [&](int64_t b, const auto& loop) {
      const Frames<T> item = item_of<T>(representation, b, normalize);
      const int64_t pairs = b * frames * frames, at = b * channels * frames;
      if (p == 1) return item_gradient<1>(item, upstream + pairs, lengths + pairs, loop, out + at);
      item_gradient<2>(item, upstream + pairs, lengths + pairs, loop, out + at);
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
