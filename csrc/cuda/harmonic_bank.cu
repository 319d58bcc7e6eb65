// Harmonic oscillators from frames (UMSS): fundamental frequencies f_i, amplitudes a_i or A_{i,k},
// 0 <= i < T, harmonics 1 <= k <= K, hop S, sampling rate R; for n = S i + m, 0 <= m < S,
//   y[n]     = sum_k ((1 - h[m]) A_{i,k} + h[m] A_{i+1,k}) 1[k f(n) < R/2] sin(k phi[n])
//   phi[n]   = phi_0 + 2 pi / R sum_{n' <= n} f(n')        h[m] = sin^2(pi m / (2 S))
//   f(n)     = f_i interpolated linearly at (n + 1/2) / S - 1/2, the first and last one held
//   A_{i,k} <- A_{i,k} 1[k f_i < R/2],  or  a_i 1[k f_i < R/2] / #{k : k f_i < R/2}
// with A_T = A_{T-1}. On every half frame (piece) the phase is a quadratic polynomial of n: a block
// per item adds the pieces up, in whole numbers, and after that every sample is on its own.
//
// Floors on an H200 at B = 60, T = 250, S = 256 in float32 (4.3 TB/s; 33.5e12 instructions/s):
//   closed   writes y: 15.4 MB, 3.6 us     some 130 instructions a sample: 15 us
//   general  K = 101, and reads A: 21.4 MB, 5.0 us     some 9 instructions a harmonic: 104 us
#include "harmonic_bank.cuh"

namespace rlsv_fast::cuda {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;

// A block takes an item, each thread a share of its pieces.
template <typename T>
__global__ void __launch_bounds__(kPieceThreads)
    make_pieces(HarmonicBank<T> in, BankPiece* pieces, T* final_phase) {
  __shared__ Turns turns[2][kPieceThreads];
  __shared__ double poisons[2][kPieceThreads];
  const int64_t count = in.shape.pieces(), share = (count + kPieceThreads - 1) / kPieceThreads;
  const int t = int(threadIdx.x);
  const int64_t begin = t * share, end = begin + share < count ? begin + share : count;
  for (int64_t item = blockIdx.x; item < in.shape.batch; item += gridDim.x) {
    BankPiece* const mine = pieces + item * count;
    Turns advance = 0;
    double poison = 0.0;
#pragma unroll 1
    for (int64_t p = begin; p < end; ++p) {
      const BankPiece piece = make_piece(in.f0 + item * in.shape.frames, in.shape, p);
      advance += piece.advance(in.shape.length(p));
      poison += piece.poison;
      mine[p] = piece;
    }
    __syncthreads();  // the totals may still be read for the item before
    turns[0][t] = advance;
    poisons[0][t] = poison;
    __syncthreads();
    int from = 0;
    for (int reach = 1; reach < kPieceThreads; reach *= 2) {
      turns[1 - from][t] = turns[from][t] + (t < reach ? 0 : turns[from][t - reach]);
      poisons[1 - from][t] = poisons[from][t] + (t < reach ? 0.0 : poisons[from][t - reach]);
      from = 1 - from;
      __syncthreads();
    }
    const double initial = double(in.initial[item]);
    Turns phase = fixed_turns(initial / kTwoPi);
    poison = 0.0 * initial;
    if (final_phase != nullptr && t == kPieceThreads - 1)
      final_phase[item] =
          T(floating_turns(phase + turns[from][t]) * kTwoPi + (poison + poisons[from][t]));
    if (t > 0) {
      phase += turns[from][t - 1];
      poison += poisons[from][t - 1];
    }
#pragma unroll 1
    for (int64_t p = begin; p < end; ++p) {
      mine[p].start = phase;
      poison = mine[p].poison += poison;
      phase += mine[p].advance(in.shape.length(p));
    }
  }
}

// A thread takes a sample.
template <bool kClosed, typename T>
__global__ void __launch_bounds__(kBankThreads)
    forward(HarmonicBank<T> in, const BankPiece* pieces, T* __restrict__ signal) {
  const int64_t hop = in.shape.hop, samples = in.shape.batch * in.shape.frames * hop;
  const int64_t stride = int64_t(gridDim.x) * kBankThreads;
  for (int64_t n = int64_t(blockIdx.x) * kBankThreads + threadIdx.x; n < samples; n += stride) {
    const int64_t row = n / hop, m = n - row * hop, side = m < hop / 2 ? 0 : 1;
    const BankPiece piece = pieces[2 * row + side];
    const Neighbours<T> frames(in, pieces, row);
    const int64_t u = m - in.shape.begin(side);
    const int32_t count = count_at(piece, in.shape, u);
    const auto angle = Angle<T>::of(piece.phase(u));
    const T fade = fading_in<T>(m, hop);
    T falling = T(0), rising = T(0);
    if (kClosed) {
      const Dirichlet<T> kernel(angle);
      const int32_t first = frames.fewer(count, frames.here_count),
                    second = frames.fewer(count, frames.later_count);
      const T value = kernel.value(first);
      falling = value * frames.spread(*frames.here, frames.here_count);
      rising = (first == second ? value : kernel.value(second)) *
               frames.spread(*frames.later, frames.later_count);
    } else {
      each_harmonic<T>(angle, frames.most(count), [&](int32_t k, T s, T) {
        if (k <= frames.here_count) falling += s * frames.here[k - 1];
        if (k <= frames.later_count) rising += s * frames.later[k - 1];
      });
    }
    signal[n] = (T(1) - fade) * falling + fade * rising + T(piece.poison);
  }
}

}  // namespace

template <typename T>
cudaError_t harmonic_bank_pieces(const HarmonicBank<T>& in, BankPiece* pieces, T* final_phase,
                                 cudaStream_t stream) {
  return launch(make_pieces<T>, bank_item_grid(in.shape.batch), stream, in, pieces, final_phase);
}

template <typename T>
cudaError_t harmonic_bank_forward(const HarmonicBank<T>& in, BankPiece* pieces, T* signal,
                                  T* final_phase, cudaStream_t stream) {
  const cudaError_t error = harmonic_bank_pieces(in, pieces, final_phase, stream);
  if (error != cudaSuccess) return error;
  return launch(in.closed ? forward<true, T> : forward<false, T>,
                bank_sample_grid(in.shape.batch * in.shape.frames * in.shape.hop), stream, in,
                pieces, signal);
}

#define RLSV_INSTANTIATE(T)                                                                 \
  template cudaError_t harmonic_bank_pieces<T>(const HarmonicBank<T>&, BankPiece*, T*,      \
                                               cudaStream_t);                               \
  template cudaError_t harmonic_bank_forward<T>(const HarmonicBank<T>&, BankPiece*, T*, T*, \
                                                cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
