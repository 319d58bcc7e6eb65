// Gradient of the pairwise distance of frames; G (B, T, T) is the gradient of M:
//   S[t, t'] = G[t, t'] + G[t', t],  0 where t = t' or M[t, t'] = 0
//   da[c, t] = sum_t' S[t, t'] sign(a[c, t] - a[c, t'])                       (p = 1)
//   da[c, t] = sum_t' S[t, t'] / M[t, t'] (a[c, t] - a[c, t'])                (p = 2)
// In float, p = 1 adds weights times steps, H(x) = (1 + sign(x)) / 2, as sum S sign = 2 sum S H -
// sum S: a step is one saturated multiply-add, with a slope that makes it exact wherever all values
// are 0 or at least 2^-100; a block that meets others (or NaN, a tie with everything) compares
// instead.
//
// Floors on an H200, operations (p = 1: 3, p = 2: 2 per term) and bytes (read A, G, M, write dA):
//   B = 8, C = 800, T = 173: 17 or 11 us and 2.5 us;    B = 64, C = 800, T = 512: 1.20 or 0.80 ms
//   and 80 us.
// The inner loop as compiled for sm_90: per frame t' 16 FADD, 16 FFMA.SAT, 16 FFMA (p = 2: 16 FADD,
// 16 FFMA) and 2 LDS.128 for 16 terms, and 4 FADD for the sum of S; with loads, stores and indices
// 3.8 (p = 2: 2.4) instructions per term.
#include "frame_distance.h"
#include "frame_distance_tiles.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr int kSide = 32, kSideRows = 8;  // of a tile of weights; rows that a block takes at once

// weights[t, t'] = S (p = 1) or S / M (p = 2), zero in the padding.
template <typename T>
__global__ void __launch_bounds__(kSide* kSideRows)
    symmetric_weights(const T* grad, const T* distance, int64_t p, int64_t batch, int64_t frames,
                      int64_t stride, int64_t across, T* weights) {
  __shared__ T mirrored[kSide][kSide + 1];
  const int lane = threadIdx.x % kSide, line = threadIdx.x / kSide;
  for (int64_t index = blockIdx.x; index < batch * across * across; index += gridDim.x) {
    const int64_t item = index / (across * across), tile = index % (across * across);
    const int64_t rows = tile / across * kSide, columns = tile % across * kSide;
    const T* upstream = grad + item * frames * frames;
    const T* lengths = distance + item * frames * frames;
#pragma unroll
    for (int row = line; row < kSide; row += kSideRows)
      if (columns + row < frames && rows + lane < frames)
        mirrored[row][lane] = upstream[(columns + row) * frames + rows + lane];
    __syncthreads();
#pragma unroll
    for (int row = line; row < kSide; row += kSideRows) {
      const int64_t t = rows + row, other = columns + lane;
      if (t >= frames || other >= stride) continue;
      T weight = T(0);
      if (other < frames && other != t) {
        const T both = upstream[t * frames + other] + mirrored[lane][row];
        const T length = lengths[t * frames + other];
        weight = length == T(0) ? T(0) : (p == 1 ? both : both / length);
      }
      weights[(item * frames + t) * stride + other] = weight;
    }
    __syncthreads();
  }
}

// A block computes da of kChannels x kFrames, a warp 16 x 32 of them, a thread 4 x 4.
constexpr int kChannels = 32, kFrames = 64, kThreads = kChannels * kFrames / 16;
constexpr int kDepth = 16;             // frames t' per stage
constexpr int kPitch = kChannels + 4;  // fewer bank conflicts where values are transposed
constexpr int kCopies = kDepth * kFrames / 4 / kThreads;  // quads of weights that a thread loads
static_assert(kChannels * kDepth / 4 == kThreads, "a quad of values per thread");
// Blocks of float that a processor holds: P2's 600 run at once on 132 processors if it holds five.
// Older ones would spill registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBlocks = 4;
#else
constexpr int kBlocks = 5;
#endif

// Half of 1 + sign(own - value); NaN counts as a tie.
template <bool kPlain, typename T>
__device__ __forceinline__ T step(T own, T value) {
  if constexpr (kPlain) {
    constexpr float kSteep = 8.507059173023462e37f;  // 2^126
    return __saturatef((own - value) * kSteep + 0.5f);
  } else {
    return own > value ? T(1) : (own < value ? T(0) : T(0.5));
  }
}

// Whether step<true> is exact for differences of such numbers: 0, or 2^-100 and more, and finite.
__device__ __forceinline__ bool plain(float x) {
  const float size = fabsf(x);
  return size == 0.0f || (size >= 7.888609052210118e-31f && size <= 3.4028234e38f);
}
__device__ __forceinline__ bool plain(const Quad<float>& quad) {
  return plain(quad.lane[0]) && plain(quad.lane[1]) && plain(quad.lane[2]) && plain(quad.lane[3]);
}

// Adds a stage's terms to part: sum of weight x step (p = 1; weight_sum gets the weights) or of
// weight x difference (p = 2).
template <int P, bool kPlain, typename T>
__device__ __forceinline__ void add_stage(const T* weights, const T* values,
                                          const Quad<T> (&own)[4], T (&part)[4][4],
                                          T (&weight_sum)[4]) {
#pragma unroll
  for (int depth = 0; depth < kDepth; ++depth) {
    const Quad<T> weight = load_quad(weights + depth * kFrames);
    const Quad<T> value = load_quad(values + depth * kPitch);
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      if (P == 1) weight_sum[s] += weight.lane[s];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const T factor =
            P == 1 ? step<kPlain>(own[r].lane[s], value.lane[r]) : own[r].lane[s] - value.lane[r];
        part[r][s] += weight.lane[s] * factor;
      }
    }
  }
}

template <int P, typename T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? kBlocks : 2)
    gradients(Frames<T> in, const T* weights, int64_t channel_tiles, int64_t frame_tiles,
              T* gradient) {
  constexpr bool kTested = P == 1 && sizeof(T) == 4;
  constexpr int kChain = kFrameChain / kDepth;  // stages added in T before they join a sum
  constexpr int kValues = kDepth * kFrames, kStage = kValues + kDepth * kPitch;
  __shared__ __align__(16) T shared[2 * kStage];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_channel = warp / 2 * 16 + lane / 8 * 4,
            first_frame = warp % 2 * 32 + lane % 8 * 4;
  const int weight_row = threadIdx.x / (kFrames / 4),
            weight_frame = threadIdx.x % (kFrames / 4) * 4;
  const int value_channel = threadIdx.x / (kDepth / 4),
            value_frame = threadIdx.x % (kDepth / 4) * 4;
  const int64_t tiles = channel_tiles * frame_tiles;

  for (int64_t index = blockIdx.x; index < in.batch * tiles; index += gridDim.x) {
    const int64_t item = index / tiles, tile = index % tiles;
    // int: kBlocks leave no registers for more
    const int channels = int(tile / frame_tiles) * kChannels;
    const int frames = int(tile % frame_tiles) * kFrames;
    const T* values = in.values + item * in.channels * in.stride;
    // The next stage's quads: kStep frames t' apart for the weights, kDepth for the values.
    constexpr int kStep = kDepth / kCopies;
    const T* next_weights =
        weights + (item * in.frames + weight_row) * in.stride + frames + weight_frame;
    const T* next_values = values + (channels + value_channel) * in.stride + value_frame;
    const bool weight_inside = frames + weight_frame < in.stride;
    const bool value_inside = channels + value_channel < in.channels;
    int weights_left = int(in.frames) - weight_row, values_left = int(in.stride) - value_frame;

    Quad<T> own[4], fetched_weights[kCopies], fetched_values;
    bool odd = false;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int c = channels + first_channel + r, t = frames + first_frame;
      own[r] = load_quad(values + c * in.stride + t, c < in.channels && t < in.stride);
      if constexpr (kTested) odd = odd || !plain(own[r]);
    }
    const auto fetch = [&] {
#pragma unroll
      for (int k = 0; k < kCopies; ++k) {
        fetched_weights[k] = load_quad(next_weights, weight_inside && weights_left > 0);
        next_weights += kStep * in.stride;
        weights_left -= kStep;
      }
      fetched_values = load_quad(next_values, value_inside && values_left > 0);
      next_values += kDepth;
      values_left -= kDepth;
      if constexpr (kTested) odd = odd || !plain(fetched_values);
    };
    const auto keep = [&](T* stage) {
#pragma unroll
      for (int k = 0; k < kCopies; ++k)
        store_quad(stage + (threadIdx.x + k * kThreads) * 4, fetched_weights[k]);
#pragma unroll
      for (int s = 0; s < 4; ++s)
        stage[kValues + (value_frame + s) * kPitch + value_channel] = fetched_values.lane[s];
    };

    T total[4][4] = {}, part[4][4] = {}, weight_sum[4] = {};
    const auto join = [&] {
#pragma unroll
      for (int s = 0; s < 4; ++s) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          total[r][s] += P == 1 ? 2 * part[r][s] - weight_sum[s] : part[r][s];
          part[r][s] = T(0);
        }
        weight_sum[s] = T(0);
      }
    };
    const int stages = int((in.frames + kDepth - 1) / kDepth);
    fetch();
    keep(shared);
    bool careful = __syncthreads_or(odd);
    for (int stage = 0; stage < stages; ++stage) {
      const bool more = stage + 1 < stages;
      if (more) fetch();
      const T* stage_weights = shared + stage % 2 * kStage + first_frame;
      const T* stage_values = shared + stage % 2 * kStage + kValues + first_channel;
      if (!kTested || careful)
        add_stage<P, false>(stage_weights, stage_values, own, part, weight_sum);
      else
        add_stage<P, kTested>(stage_weights, stage_values, own, part, weight_sum);
      if (stage % kChain == kChain - 1) join();
      if (more) keep(shared + (stage + 1) % 2 * kStage);
      careful = __syncthreads_or(odd);
    }
    join();
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const int c = channels + first_channel + r, t = frames + first_frame + s;
        if (c < in.channels && t < in.frames)
          gradient[(item * in.channels + c) * in.frames + t] = total[r][s];
      }
  }
}

template <int P, typename T>
cudaError_t launch_gradients(const Frames<T>& in, const T* weights, T* gradient,
                             cudaStream_t stream) {
  const int64_t channel_tiles = divide_up(in.channels, kChannels);
  const int64_t frame_tiles = divide_up(in.frames, kFrames);
  const Grid grid{std::min(in.batch * channel_tiles * frame_tiles, kMaxBlocks), kThreads};
  return launch(gradients<P, T>, grid, stream, in, weights, channel_tiles, frame_tiles, gradient);
}

}  // namespace

template <typename T>
cudaError_t frame_distance_backward(const Frames<T>& in, int64_t p, const T* grad,
                                    const T* distance, T* weights, T* gradient,
                                    cudaStream_t stream) {
  const int64_t across = divide_up(in.frames, kSide);
  const Grid grid{std::min(in.batch * across * across, kMaxBlocks), kSide * kSideRows};
  cudaError_t error = normalise_frames(in, stream);
  if (error == cudaSuccess)
    error = launch(symmetric_weights<T>, grid, stream, grad, distance, p, in.batch, in.frames,
                   in.stride, across, weights);
  if (error == cudaSuccess)
    error = p == 1 ? launch_gradients<1>(in, weights, gradient, stream)
                   : launch_gradients<2>(in, weights, gradient, stream);
  return error == cudaSuccess ? denormalise_gradient(in, gradient, stream) : error;
}

#define RLSV_INSTANTIATE(T)                                                                      \
  template cudaError_t frame_distance_backward<T>(const Frames<T>&, int64_t, const T*, const T*, \
                                                  T*, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
