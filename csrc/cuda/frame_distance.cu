// Pairwise distance of the frames of a normalised representation a (B, C, T):
//   M[b, t, t'] = ( sum_c |a[c, t] - a[c, t']|^p )^(1/p),   p in {1, 2},
// computed in tiles on or above the diagonal and written to both places: symmetric to the bit.
//
// Floors on an H200, operations (2 per term and pair t <= t') and bytes (read A, write M):
//   B = 8, C = 800, T = 173: 5.8 us and 1.3 us;    B = 64, C = 800, T = 512: 401 us and 40 us.
// The inner loop as compiled for sm_90: per channel 64 FADD (p = 2: 32 FADD, 32 FFMA) and 3 LDS.128
// for 32 terms; with loads, stores and indices 2.3 instructions per term (small tiles: 2.4).
#include "frame_distance.h"
#include "frame_distance_tiles.cuh"

namespace rlsv_fast::cuda {
namespace {

// A block computes one kTile x kTile tile of M, a warp 32 x 32 of it, a thread 8 x 4 of these. The
// warps that a tile does not need take a share of the channels each: groups, added up at the end.
template <typename T, int kTile>
struct Tiling {
  static constexpr int kThreads = 1024 / sizeof(T), kSubtiles = kTile / 32;
  static constexpr int kGroups = kThreads / 32 / (kSubtiles * kSubtiles);
  static constexpr int kDepth = 8, kStage = kGroups * kDepth;  // channels: per group, per stage
  static constexpr int kQuads = kTile / 4;                     // per channel
  static constexpr int kCopies = kStage * kQuads / kThreads;   // quads that a thread loads
  static constexpr int kOperand = kStage * kTile;
  static constexpr int kPitch = kTile + 4;  // of the sums; fewer bank conflicts read mirrored
  static constexpr int kSums = kTile * kPitch;
  static constexpr int kShared = kGroups * kSums > 4 * kOperand ? kGroups* kSums : 4 * kOperand;
};

template <int P, int kTile, typename T>
__global__ void __launch_bounds__(Tiling<T, kTile>::kThreads, 2)
    distances(Frames<T> in, int64_t across, int64_t tiles, T* distance) {
  using Size = Tiling<T, kTile>;
  constexpr int kChain = kFrameChain / Size::kDepth;  // stages added in T before they join a sum
  __shared__ __align__(16) T shared[Size::kShared];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int group = warp / (Size::kSubtiles * Size::kSubtiles);
  const int subtile = warp % (Size::kSubtiles * Size::kSubtiles);
  // The thread's rows are first_row + {0..3, 16..19}, its columns first_column + {0..3}.
  const int first_row = subtile / Size::kSubtiles * 32 + lane / 8 * 4;
  const int first_column = subtile % Size::kSubtiles * 32 + lane % 8 * 4;
  const int copy_channel = threadIdx.x / Size::kQuads, copy_frame = threadIdx.x % Size::kQuads * 4;

  for (int64_t index = blockIdx.x; index < in.batch * tiles; index += gridDim.x) {
    // Every unordered pair of `across` blocks of frames once: neighbours at growing distance.
    const int64_t item = index / tiles, turn = index % tiles;
    const int64_t one = turn % across, other = (one + turn / across) % across;
    const int64_t rows = min(one, other) * kTile, columns = max(one, other) * kTile;
    const bool needed = rows != columns || first_column / 32 >= first_row / 32;

    // The next stage's quads: the same frames, kStep channels apart.
    constexpr int kStep = Size::kThreads / Size::kQuads;
    const T* next = in.values + (item * in.channels + copy_channel) * in.stride + copy_frame;
    const bool row_inside = rows + copy_frame < in.stride;
    const bool column_inside = columns + copy_frame < in.stride;
    int left = int(in.channels) - copy_channel;
    Quad<T> fetched[2][Size::kCopies];
    const auto fetch = [&] {
#pragma unroll
      for (int k = 0; k < Size::kCopies; ++k) {
        fetched[0][k] = load_quad(next + rows, row_inside && left > 0);
        fetched[1][k] = load_quad(next + columns, column_inside && left > 0);
        next += kStep * in.stride;
        left -= kStep;
      }
    };
    const auto keep = [&](T* stage) {
#pragma unroll
      for (int k = 0; k < Size::kCopies; ++k) {
        T* place = stage + (threadIdx.x + k * Size::kThreads) * 4;
        store_quad(place, fetched[0][k]);
        store_quad(place + Size::kOperand, fetched[1][k]);
      }
    };

    T total[8][4] = {}, part[8][4] = {};
    const auto join = [&] {
#pragma unroll
      for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          total[r][s] += part[r][s];
          part[r][s] = T(0);
        }
    };
    const int stages = int((in.channels + Size::kStage - 1) / Size::kStage);
    fetch();
    keep(shared);
    __syncthreads();
    for (int stage = 0; stage < stages; ++stage) {
      const bool more = stage + 1 < stages;
      if (more) fetch();
      const T* operands = shared + stage % 2 * 2 * Size::kOperand + group * Size::kDepth * kTile;
      if (needed) {
#pragma unroll
        for (int depth = 0; depth < Size::kDepth; ++depth) {
          const T* channel = operands + depth * kTile;
          const Quad<T> upper = load_quad(channel + first_row);
          const Quad<T> lower = load_quad(channel + first_row + 16);
          const Quad<T> across_values = load_quad(channel + Size::kOperand + first_column);
#pragma unroll
          for (int r = 0; r < 8; ++r)
#pragma unroll
            for (int s = 0; s < 4; ++s) {
              const T own = r < 4 ? upper.lane[r % 4] : lower.lane[r % 4];
              const T difference = own - across_values.lane[s];
              part[r][s] += P == 1 ? magnitude(difference) : difference * difference;
            }
        }
      }
      if (stage % kChain == kChain - 1) join();
      if (more) keep(shared + (stage + 1) % 2 * 2 * Size::kOperand);
      __syncthreads();
    }
    join();

    // The groups' sums, added in order by all threads.
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const int row = first_row + r % 4 + r / 4 * 16;
      store_quad(shared + group * Size::kSums + row * Size::kPitch + first_column,
                 Quad<T>{total[r][0], total[r][1], total[r][2], total[r][3]});
    }
    __syncthreads();
    for (int quad = threadIdx.x; quad < kTile * Size::kQuads; quad += Size::kThreads) {
      T* place = shared + quad / Size::kQuads * Size::kPitch + quad % Size::kQuads * 4;
      Quad<T> sum = load_quad(place);
#pragma unroll
      for (int g = 1; g < Size::kGroups; ++g) {
        const Quad<T> term = load_quad(place + g * Size::kSums);
#pragma unroll
        for (int s = 0; s < 4; ++s) sum.lane[s] += term.lane[s];
      }
#pragma unroll
      for (int s = 0; s < 4; ++s)
        if (P == 2) sum.lane[s] = sqrt(sum.lane[s]);
      store_quad(place, sum);
    }
    __syncthreads();
    T* to = distance + item * in.frames * in.frames;
    for (int place = threadIdx.x; place < kTile * kTile; place += Size::kThreads) {
      const int slow = place / kTile, fast = place % kTile;
      if (rows + slow < in.frames && columns + fast < in.frames &&
          (rows != columns || slow <= fast))
        to[(rows + slow) * in.frames + columns + fast] = shared[slow * Size::kPitch + fast];
      if (rows + fast < in.frames && columns + slow < in.frames && (rows != columns || fast < slow))
        to[(columns + slow) * in.frames + rows + fast] = shared[fast * Size::kPitch + slow];
    }
    __syncthreads();
  }
}

template <int P, int kTile, typename T>
cudaError_t launch_distances(const Frames<T>& in, T* distance, cudaStream_t stream) {
  const int64_t across = divide_up(in.frames, kTile);
  const int64_t tiles = frame_distance_tiles(1, in.frames, kTile);
  const Grid grid{std::min(in.batch * tiles, kMaxBlocks), Tiling<T, kTile>::kThreads};
  return launch(distances<P, kTile, T>, grid, stream, in, across, tiles, distance);
}

}  // namespace

template <typename T>
cudaError_t frame_distance_forward(const Frames<T>& in, int64_t p, T* distance,
                                   cudaStream_t stream) {
  Device device;
  if (const cudaError_t error = find_device(device)) return error;
  if (const cudaError_t error = normalise_frames(in, stream)) return error;
  const bool large = frame_distance_tile(device, in.batch, in.frames) == kLargeTile;
  if (p == 1)
    return large ? launch_distances<1, kLargeTile>(in, distance, stream)
                 : launch_distances<1, kSmallTile>(in, distance, stream);
  return large ? launch_distances<2, kLargeTile>(in, distance, stream)
               : launch_distances<2, kSmallTile>(in, distance, stream);
}

#define RLSV_INSTANTIATE(T) \
  template cudaError_t frame_distance_forward<T>(const Frames<T>&, int64_t, T*, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
