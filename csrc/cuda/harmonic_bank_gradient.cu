// The gradients of harmonic_bank (formulas of the signal: harmonic_bank.cu). With G the gradient of
// y, e[n] = G[n] dy[n]/dphi[n], E[n] = sum_{n' >= n} e[n'] (plus the gradient of the last phase),
// and masks and counts held constant,
//   df_i = 2 pi / R sum_n E[n] df(n)/df_i      dphi_0 = E[0]
//   dA_{i,k} = sum_n G[n] (window) 1[...] sin(k phi[n])
// f is linear on every piece, so the sums over E follow from three moments of e there (BankSums).
// All sums in a fixed order: lanes of a warp, or threads, then pieces.
//
// Floors on an H200 at B = 60, T = 250, S = 256 in float32 (4.3 TB/s; 33.5e12 instructions/s):
//   closed   reads G: 15.4 MB, 3.6 us     some 200 instructions a sample: 23 us
//   general  K = 101, and A, dA: 27.5 MB, 6.4 us     some 30 instructions a harmonic: 350 us
#include "harmonic_bank.cuh"
#include "reduce.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;
constexpr int kBankWarps = kBankThreads / kWarp;
constexpr int kResident = 4;  // blocks on a processor: registers for everything in double, too

// e, e (u + 1) and e u (u + 1) / 2 over the samples that a thread has seen.
struct Moments {
  double e = 0.0, first = 0.0, second = 0.0;

  __device__ __forceinline__ void add(double value, int64_t u) {
    e += value;
    value *= double(u + 1);
    first += value;
    second += value * (0.5 * double(u));
  }
};

// A warp takes a piece.
template <typename T>
__global__ void __launch_bounds__(kBankThreads, kResident)
    closed_sums(HarmonicBank<T> in, const BankPiece* pieces, const T* grad, BankSums* sums) {
  const int64_t hop = in.shape.hop, count = in.shape.batch * in.shape.pieces();
  const int lane = int(threadIdx.x % kWarp);
  const int64_t stride = int64_t(gridDim.x) * kBankWarps;
  for (int64_t p = int64_t(blockIdx.x) * kBankWarps + threadIdx.x / kWarp; p < count; p += stride) {
    const BankPiece piece = pieces[p];
    const int64_t row = p / 2, begin = in.shape.begin(p), length = in.shape.length(p);
    const Neighbours<T> frames(in, pieces, row);
    const T here_gain = frames.spread(*frames.here, frames.here_count),
            later_gain = frames.spread(*frames.later, frames.later_count);
    Moments moments;
    double here = 0.0, later = 0.0;
    for (int64_t u = lane; u < length; u += kWarp) {
      const int32_t audible = count_at(piece, in.shape, u);
      const Dirichlet<T> kernel(Angle<T>::of(piece.phase(u)));
      const int32_t first = frames.fewer(audible, frames.here_count),
                    second = frames.fewer(audible, frames.later_count);
      T value = kernel.value(first), slope = kernel.slope(first, value);
      const T flow = grad[row * hop + begin + u], fade = fading_in<T>(begin + u, hop);
      const T falling = flow * (T(1) - fade), rising = flow * fade;
      T e = falling * here_gain * slope;
      here += double(falling * value);
      if (first != second) {
        value = kernel.value(second);
        slope = kernel.slope(second, value);
      }
      e += rising * later_gain * slope;
      later += double(rising * value);
      moments.add(double(e), u);
    }
    const BankSums total{warp_reduce(moments.e) + piece.poison,
                         warp_reduce(moments.first) + piece.poison,
                         warp_reduce(moments.second) + piece.poison,
                         warp_reduce(here) + piece.poison, warp_reduce(later) + piece.poison};
    if (lane == 0) sums[p] = total;
  }
}

// A block takes a frame: a thread per sample for e, then a thread per harmonic for the amplitudes.
template <typename T>
__global__ void __launch_bounds__(kBankThreads, kResident)
    general_sums(HarmonicBank<T> in, const BankPiece* pieces, const T* grad, BankSums* sums,
                 T* amplitude, T* beyond) {
  __shared__ typename Angle<T>::type angles[kBankThreads];
  __shared__ int32_t counts[kBankThreads];
  __shared__ T falling[kBankThreads], rising[kBankThreads];
  __shared__ double scratch[kBankWarps];
  const int64_t hop = in.shape.hop, harmonics = in.shape.harmonics;
  const int t = int(threadIdx.x);
  for (int64_t row = blockIdx.x; row < in.shape.batch * in.shape.frames; row += gridDim.x) {
    const Neighbours<T> frames(in, pieces, row);
    for (int64_t k = t; k < harmonics; k += kBankThreads)
      amplitude[row * harmonics + k] = beyond[row * harmonics + k] = T(0);
    for (int64_t p = 2 * row; p < 2 * row + 2; ++p) {
      const BankPiece piece = pieces[p];
      const int64_t begin = in.shape.begin(p), length = in.shape.length(p);
      Moments moments;
      for (int64_t at = 0; at < length; at += kBankThreads) {
        const int64_t u = at + t;
        const int32_t size = length - at < kBankThreads ? int32_t(length - at) : kBankThreads;
        if (t < size) {
          const int32_t audible = count_at(piece, in.shape, u);
          const auto angle = Angle<T>::of(piece.phase(u));
          const T flow = grad[row * hop + begin + u], fade = fading_in<T>(begin + u, hop);
          T by_here = T(0), by_later = T(0);
          each_harmonic<T>(angle, frames.most(audible), [&](int32_t k, T, T c) {
            const T slope = T(k) * c;
            if (k <= frames.here_count) by_here += slope * frames.here[k - 1];
            if (k <= frames.later_count) by_later += slope * frames.later[k - 1];
          });
          angles[t] = angle;
          counts[t] = audible;
          falling[t] = flow * (T(1) - fade);
          rising[t] = flow * fade;
          moments.add(double(falling[t] * by_here + rising[t] * by_later), u);
        }
        __syncthreads();
        for (int64_t index = t; index < harmonics; index += kBankThreads) {
          const int32_t k = int32_t(index) + 1;
          T here = T(0), later = T(0);
          for (int32_t sample = 0; sample < size; ++sample) {
            if (k > counts[sample]) continue;
            const T s = sine_turns(times(k, angles[sample]));
            here += s * falling[sample];
            later += s * rising[sample];
          }
          if (k <= frames.here_count) amplitude[row * harmonics + index] += here;
          if (k <= frames.later_count) beyond[row * harmonics + index] += later;
        }
        __syncthreads();  // the next samples take their place
      }
      const double e = block_reduce<kBankThreads>(moments.e, scratch),
                   first = block_reduce<kBankThreads>(moments.first, scratch),
                   second = block_reduce<kBankThreads>(moments.second, scratch);
      if (t == 0)
        sums[p] = {e + piece.poison, first + piece.poison, second + piece.poison, 0.0, 0.0};
      if (piece.poison != 0.0)
        for (int64_t k = t; k < harmonics; k += kBankThreads)
          amplitude[row * harmonics + k] = beyond[row * harmonics + k] = T(piece.poison);
    }
  }
}

// A block takes an item: E behind every piece, from the last one on, then the frames.
template <typename T>
__global__ void __launch_bounds__(kPieceThreads)
    combine(HarmonicBank<T> in, HarmonicBankGradient<T> out) {
  __shared__ double totals[2][kPieceThreads];
  const BankShape& shape = in.shape;
  const int64_t count = shape.pieces(), share = (count + kPieceThreads - 1) / kPieceThreads;
  const int t = int(threadIdx.x);
  const double scale = kTwoPi / shape.rate, hop = double(shape.hop);
  const int64_t last = count - 1 - t * share, stop = last - share > -1 ? last - share : -1;
  for (int64_t item = blockIdx.x; item < shape.batch; item += gridDim.x) {
    BankSums* const sums = out.sums + item * count;
    double mine = 0.0;
    for (int64_t p = last; p > stop; --p) mine += sums[p].e;
    __syncthreads();  // the totals may still be read for the item before
    totals[0][t] = mine;
    __syncthreads();
    int from = 0;
    for (int reach = 1; reach < kPieceThreads; reach *= 2) {
      totals[1 - from][t] = totals[from][t] + (t < reach ? 0.0 : totals[from][t - reach]);
      from = 1 - from;
      __syncthreads();
    }
    double flow = double(out.grad_phase[item]);
    if (t == kPieceThreads - 1) out.initial[item] = T(flow + totals[from][t]);
    if (t > 0) flow += totals[from][t - 1];
#pragma unroll 1
    for (int64_t p = last; p > stop; --p) {
      const double part = shape.share(p), samples = double(shape.length(p));
      const double all = sums[p].first + flow * samples;
      const double above = part * sums[p].first + sums[p].second / hop +
                           flow * (part * samples + 0.5 * samples * (samples - 1.0) / hop);
      sums[p].first = above;  // to the upper frame, and to the lower one
      sums[p].second = all - above;
      flow += sums[p].e;
    }
    __syncthreads();
#pragma unroll 1
    for (int64_t i = t; i < shape.frames; i += kPieceThreads) {
      const BankSums *before = sums + 2 * i, *after = before + 1;
      const bool begins = i == 0, ends = i + 1 == shape.frames;
      const double by_f0 = before->first + after->second +
                           (begins ? before->second : (before - 1)->first) +
                           (ends ? after->first : (after + 1)->second);
      out.f0[item * shape.frames + i] = T(scale * by_f0);
      if (!in.closed) continue;
      double by_amplitude = before->here + after->here;
      if (!begins) by_amplitude += (before - 2)->later + (before - 1)->later;
      if (ends) by_amplitude += before->later + after->later;
      const int32_t some = out.pieces[item * count + 2 * i].frame_count;
      out.amplitude[item * shape.frames + i] =
          T(some > 0 ? by_amplitude / double(some) : 0.0 * by_amplitude);
    }
  }
}

// Amplitudes get what the frame before had beyond it, and the last ones their own.
template <typename T>
__global__ void __launch_bounds__(kBankThreads)
    add_beyond(BankShape shape, const T* beyond, T* amplitude) {
  const int64_t harmonics = shape.harmonics, count = shape.batch * shape.frames * harmonics;
  const int64_t stride = int64_t(gridDim.x) * kBankThreads;
  for (int64_t i = int64_t(blockIdx.x) * kBankThreads + threadIdx.x; i < count; i += stride) {
    const int64_t frame = i / harmonics % shape.frames;
    T total = amplitude[i];
    if (frame > 0) total += beyond[i - harmonics];
    if (frame + 1 == shape.frames) total += beyond[i];
    amplitude[i] = total;
  }
}

}  // namespace

template <typename T>
cudaError_t harmonic_bank_backward(const HarmonicBank<T>& in, const HarmonicBankGradient<T>& out,
                                   cudaStream_t stream) {
  const BankShape& shape = in.shape;
  const int64_t rows = shape.batch * shape.frames;
  cudaError_t error = harmonic_bank_pieces<T>(in, out.pieces, nullptr, stream);
  if (error != cudaSuccess) return error;
  error = in.closed ? launch(closed_sums<T>, bank_piece_grid(2 * rows), stream, in, out.pieces,
                             out.grad, out.sums)
                    : launch(general_sums<T>, bank_frame_grid(rows), stream, in, out.pieces,
                             out.grad, out.sums, out.amplitude, out.beyond);
  if (error != cudaSuccess) return error;
  error = launch(combine<T>, bank_item_grid(shape.batch), stream, in, out);
  if (error != cudaSuccess || in.closed) return error;
  return launch(add_beyond<T>, bank_sample_grid(rows * shape.harmonics), stream, shape, out.beyond,
                out.amplitude);
}

#define RLSV_INSTANTIATE(T)                                              \
  template cudaError_t harmonic_bank_backward<T>(const HarmonicBank<T>&, \
                                                 const HarmonicBankGradient<T>&, cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
