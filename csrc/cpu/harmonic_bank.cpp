// Harmonic oscillators from frames (UMSS): fundamental frequencies f_i, amplitudes a_i or A_{i,k},
// 0 <= i < T, harmonics 1 <= k <= K, hop S, sampling rate R; for n = S i + m, 0 <= m < S,
//   y[n]     = sum_k ((1 - h[m]) A_{i,k} + h[m] A_{i+1,k}) 1[k f(n) < R/2] sin(k phi[n])
//   phi[n]   = phi_0 + 2 pi / R sum_{n' <= n} f(n')        h[m] = sin^2(pi m / (2 S))
//   f(n)     = f_i interpolated linearly at (n + 1/2) / S - 1/2, the first and last one held
//   A_{i,k} <- A_{i,k} 1[k f_i < R/2],  or  a_i 1[k f_i < R/2] / #{k : k f_i < R/2}
// with A_T = A_{T-1}. With G the gradient of y, e[n] = G[n] dy[n]/dphi[n], E[n] = sum_{n' >= n}
// e[n'] (plus the gradient of the last phase), and masks and counts held constant,
//   df_i = 2 pi / R sum_n E[n] df(n)/df_i      dphi_0 = E[0]
//   dA_{i,k} = sum_n G[n] (window) 1[...] sin(k phi[n])
// The phase is a quadratic polynomial of n on every half frame, and the sums over E need three
// moments of e there: no sample waits for another, and nothing of the size of y is kept.
#include <algorithm>
#include <limits>
#include <vector>

#include "harmonic_bank_rules.h"
#include "operands.h"
#include "turns.h"

#define RLSV_KERNEL_FILE "cpu/harmonic_bank.cpp"
#include "each_simd.h"
#include "harmonic_bank_closed.h"
#include "harmonic_bank_general.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "harmonic_bank";
constexpr double kTwoPi = 6.283185307179586476925;

template <typename T>
struct Bank {
  const T *f0, *amplitude, *initial;
  BankShape shape;
  bool closed;  // one amplitude per frame

  int64_t rows() const { return shape.batch * shape.frames; }
  int64_t cost() const { return shape.hop * (closed ? 4 : shape.harmonics); }
  int64_t later(int64_t row) const { return row % shape.frames + 1 < shape.frames ? row + 1 : row; }
};

// The pieces of every item; where asked, the phases in which they end, in radians.
template <typename T>
std::vector<BankPiece> make_pieces(const Bank<T>& bank, T* final_phase) {
  const BankShape& shape = bank.shape;
  const int64_t count = shape.pieces();
  std::vector<BankPiece> pieces(shape.batch * count);
  parallel(shape.batch, 8 * count, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      Turns phase = fixed_turns(double(bank.initial[item]) / kTwoPi);
      double poison = 0.0 * double(bank.initial[item]);
      for (int64_t p = 0; p < count; ++p) {
        BankPiece& piece = pieces[item * count + p];
        piece = make_piece(bank.f0 + item * shape.frames, shape, p);
        poison = piece.poison += poison;
        piece.start = phase;
        phase += piece.advance(shape.length(p));
      }
      if (final_phase) final_phase[item] = T(floating_turns(phase) * kTwoPi + poison);
    }
  });
  return pieces;
}

template <typename T>
std::vector<T> fading_in(const BankShape& shape) {
  std::vector<T> rise(shape.hop);
  for (int64_t m = 0; m < shape.hop; ++m) {
    const double sine = sine_turns<double>(0.25 * double(m) / double(shape.hop));
    rise[m] = T(sine * sine);
  }
  return rise;
}

// Amplitudes of a frame with 0 for what is not audible there; returns how many are.
template <typename T>
int64_t audible_row(const Bank<T>& bank, const std::vector<BankPiece>& pieces, int64_t row,
                    T* amplitudes) {
  const int64_t harmonics = bank.shape.harmonics, count = pieces[2 * row].frame_count;
  std::copy_n(bank.amplitude + row * harmonics, count, amplitudes);
  std::fill(amplitudes + count, amplitudes + harmonics, T(0));
  return count;
}

// Calls body(piece, at, m, length, run) for the runs of a frame: from sample `at` of a piece and m
// of the frame on.
template <typename T, typename Body>
RLSV_INLINE void each_run(const Bank<T>& bank, const std::vector<BankPiece>& pieces, int64_t row,
                          Run<T>& run, const Body& body) {
  for (int64_t side = 0; side < 2; ++side) {
    const int64_t length = bank.shape.length(side);
    for (int64_t at = 0; at < length; at += kRun) {
      const int64_t part = std::min(kRun, length - at);
      const BankPiece& piece = pieces[2 * row + side];
      if (piece.poison == 0.0) run.make(bank.shape, piece, at, part);
      body(2 * row + side, at, bank.shape.begin(side) + at, part);
    }
  }
}

template <typename T>
void forward_rows(const Bank<T>& bank, const std::vector<BankPiece>& pieces, const T* rise,
                  T* signal, int64_t begin, int64_t end) {
  std::vector<T> amplitudes(bank.closed ? 0 : 2 * bank.shape.harmonics);
  T *const here = amplitudes.data(), *const later = here + amplitudes.size() / 2;
  Run<T> run;
  for (int64_t row = begin; row < end; ++row) {
    int64_t most = 0;
    if (!bank.closed)
      most = std::max(audible_row(bank, pieces, row, here),
                      audible_row(bank, pieces, bank.later(row), later));
    T* const out = signal + row * bank.shape.hop;
    each_run(bank, pieces, row, run, [&](int64_t p, int64_t, int64_t m, int64_t length) {
      if (pieces[p].poison != 0.0) {
        std::fill_n(out + m, length, std::numeric_limits<T>::quiet_NaN());
      } else if (bank.closed) {
        const int64_t next = bank.later(row);
        const Spread<T> first(bank.amplitude[row], pieces[2 * row].frame_count),
            second(bank.amplitude[next], pieces[2 * next].frame_count);
        closed_forward(run, length, first, second, rise + m, out + m);
      } else {
        general_forward<T>(run, length, here, later, most, rise + m, out + m);
      }
    });
  }
}

// What the gradients are made of: sums per piece, and for an amplitude per harmonic the derivatives
// by those of each frame and, in `beyond`, of the frame after it.
template <typename T>
struct Parts {
  std::vector<BankSums> sums;
  std::vector<T> beyond;
  T* amplitude;
};

template <typename T>
void backward_rows(const Bank<T>& bank, const std::vector<BankPiece>& pieces, const T* rise,
                   const T* grad, Parts<T>& parts, int64_t begin, int64_t end) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const int64_t harmonics = bank.closed ? 0 : bank.shape.harmonics;
  std::vector<T> amplitudes(2 * harmonics), vectors(2 * harmonics * kLanes<T>);
  T *const here = amplitudes.data(), *const later = here + harmonics;
  Run<T> run;
  for (int64_t row = begin; row < end; ++row) {
    int64_t counts[2] = {};
    if (!bank.closed) {
      counts[0] = audible_row(bank, pieces, row, here);
      counts[1] = audible_row(bank, pieces, bank.later(row), later);
      std::fill(vectors.begin(), vectors.end(), T(0));
    }
    const T* const flow = grad + row * bank.shape.hop;
    each_run(bank, pieces, row, run, [&](int64_t p, int64_t at, int64_t m, int64_t length) {
      BankSums& sums = parts.sums[p];
      if (pieces[p].poison != 0.0) {
        sums = {kNaN, kNaN, kNaN, kNaN, kNaN};
        std::fill(vectors.begin(), vectors.end(), T(kNaN));
      } else if (bank.closed) {
        const int64_t next = bank.later(row);
        const Spread<T> first(bank.amplitude[row], pieces[2 * row].frame_count),
            second(bank.amplitude[next], pieces[2 * next].frame_count);
        closed_backward(run, at, length, first, second, rise + m, flow + m, sums);
      } else {
        general_backward<T>(run, at, length, here, later, std::max(counts[0], counts[1]), rise + m,
                            flow + m, sums, vectors.data(), harmonics);
      }
    });
    for (int64_t i = 0; i < 2 * harmonics; ++i) {
      const bool next = i >= harmonics;
      const int64_t k = next ? i - harmonics : i;
      Vec<T> lanes;
      load(vectors.data() + i * kLanes<T>, lanes);
      (next ? parts.beyond.data() : parts.amplitude)[row * harmonics + k] =
          k < counts[next] ? sum<T>(lanes) : T(0);
    }
  }
}

// The gradients of one item from the sums of its pieces.
template <typename T>
void combine(const Bank<T>& bank, const std::vector<BankPiece>& pieces, const Parts<T>& parts,
             int64_t item, double flow, T* grad_f0, T* grad_initial) {
  const BankShape& shape = bank.shape;
  const BankSums* sums = parts.sums.data() + item * shape.pieces();
  std::vector<double> by_f0(shape.frames, 0.0), by_amplitude(shape.frames, 0.0);
  for (int64_t p = shape.pieces() - 1; p >= 0; --p) {
    const double share = shape.share(p), count = double(shape.length(p)), hop = double(shape.hop);
    const double all = sums[p].first + flow * count;
    const double above = share * sums[p].first + sums[p].second / hop +
                         flow * (share * count + 0.5 * count * (count - 1.0) / hop);
    by_f0[shape.upper(p)] += above;
    by_f0[shape.lower(p)] += all - above;
    by_amplitude[p / 2] += sums[p].here;
    by_amplitude[std::min(p / 2 + 1, shape.frames - 1)] += sums[p].later;
    flow += sums[p].e;
  }
  *grad_initial = T(flow);
  for (int64_t i = 0, row = item * shape.frames; i < shape.frames; ++i, ++row) {
    grad_f0[row] = T(kTwoPi / shape.rate * by_f0[i]);
    if (bank.closed) {
      const int64_t some = pieces[2 * row].frame_count;
      parts.amplitude[row] =
          some > 0 ? T(by_amplitude[i] / double(some)) : T(0.0 * by_amplitude[i]);
    }
  }
  // From the last frame on, which follows itself.
  const int64_t harmonics = bank.closed ? 0 : shape.harmonics;
  const T* const beyond = parts.beyond.data() + item * shape.frames * harmonics;
  T* const amplitude = parts.amplitude + item * shape.frames * harmonics;
  for (int64_t i = shape.frames - 1; i >= 0; --i) {
    const int64_t to = std::min(i + 1, shape.frames - 1);
    for (int64_t k = 0; k < harmonics; ++k)
      amplitude[to * harmonics + k] += beyond[i * harmonics + k];
  }
}

template <typename T>
Bank<T> bank_of(const Tensor& f0, const Tensor& amplitude, const Tensor& initial_phase, int64_t hop,
                int64_t sample_rate, int64_t harmonics) {
  return {read<T>(f0), read<T>(amplitude), read<T>(initial_phase),
          bank_shape(f0, amplitude, hop, sample_rate, harmonics), amplitude.dim() == 2};
}

std::tuple<Tensor, Tensor> harmonic_bank_forward(const Tensor& f0, const Tensor& amplitude,
                                                 const Tensor& initial_phase, int64_t hop,
                                                 int64_t sample_rate, int64_t harmonics) {
  check_harmonic_bank(f0, amplitude, initial_phase, hop, sample_rate, harmonics);
  Tensor signal = torch::stable::new_empty(f0, {f0.size(0), f0.size(1) * hop});
  Tensor final_phase = torch::stable::new_empty(f0, {f0.size(0)});
  dispatch_floating(f0, kOp, [&](auto zero) {
    using T = decltype(zero);
    const Bank<T> bank = bank_of<T>(f0, amplitude, initial_phase, hop, sample_rate, harmonics);
    const std::vector<BankPiece> pieces = make_pieces(bank, write<T>(final_phase));
    if (bank.rows() == 0) return;
    const std::vector<T> rise = fading_in<T>(bank.shape);
    T* out = write<T>(signal);
    parallel(bank.rows(), bank.cost(), [&](int64_t begin, int64_t end) {
      forward_rows(bank, pieces, rise.data(), out, begin, end);
    });
  });
  return {signal, final_phase};
}

std::tuple<Tensor, Tensor, Tensor> harmonic_bank_backward(const Tensor& grad,
                                                          const Tensor& grad_phase,
                                                          const Tensor& f0, const Tensor& amplitude,
                                                          const Tensor& initial_phase, int64_t hop,
                                                          int64_t sample_rate, int64_t harmonics) {
  check_harmonic_bank_backward(grad, grad_phase, f0, amplitude, initial_phase, hop, sample_rate,
                               harmonics);
  Tensor grad_f0 = torch::stable::empty_like(f0),
         grad_amplitude = torch::stable::empty_like(amplitude),
         grad_initial = torch::stable::empty_like(initial_phase);
  dispatch_floating(f0, kOp, [&](auto zero) {
    using T = decltype(zero);
    const Bank<T> bank = bank_of<T>(f0, amplitude, initial_phase, hop, sample_rate, harmonics);
    const std::vector<BankPiece> pieces = make_pieces<T>(bank, nullptr);
    Parts<T> parts{std::vector<BankSums>(pieces.size()),
                   std::vector<T>(bank.closed ? 0 : bank.rows() * bank.shape.harmonics),
                   write<T>(grad_amplitude)};
    const T *flow = read<T>(grad), *flow_phase = read<T>(grad_phase);
    const std::vector<T> rise = bank.rows() > 0 ? fading_in<T>(bank.shape) : std::vector<T>();
    parallel(bank.rows(), 2 * bank.cost(), [&](int64_t begin, int64_t end) {
      backward_rows(bank, pieces, rise.data(), flow, parts, begin, end);
    });
    T *by_f0 = write<T>(grad_f0), *by_initial = write<T>(grad_initial);
    const int64_t cost = bank.shape.frames * (8 + (bank.closed ? 0 : bank.shape.harmonics));
    parallel(bank.shape.batch, cost, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item)
        combine(bank, pieces, parts, item, double(flow_phase[item]), by_f0, by_initial + item);
    });
  });
  return {grad_f0, grad_amplitude, grad_initial};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_harmonic_bank_forward", harmonic_bank_forward);
  RLSV_IMPL(m, "_harmonic_bank_backward", harmonic_bank_backward);
}
#endif
