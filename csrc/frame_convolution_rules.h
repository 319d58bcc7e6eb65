// The bilinear algorithm of frame_convolution, on any device: with rows r = 0 .. R-1,
//   y[n] = sum_r o[r, n] (sum_j w[r, j] W[j]) (sum_i x[r, i] X[i]),    y[n] = sum_j W[j] X[n + j]
// in a circle of N points, for W of J taps. It is the discrete Fourier transform over the circle,
//   W_k = sum_j W[j] e^(2 pi i jk / N),   X_k = sum_i X[i] e^(-2 pi i ik / N),   Y_k = W_k X_k,
// with three real products for a complex one (Gauss):
//   p = Wr (Xr + Xi),   q = (Wi - Wr) Xr,   s = (Wr + Wi) Xi;      Yr = p - s,   Yi = p + q
// Rows are bins: one for k = 0, three for each complex bin, one for k = N/2 if N is even. Roots of
// unity keep the algorithm as well conditioned as the sum itself; the real points that would need
// fewer products still (Winograd's F(18, 5): 22 instead of 29) would not.
// N = 0 stands for the plain sum, tap by tap: R = J, w and x unit matrices, o = 1.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace rlsv_fast {

// Whose coefficients: w, w with its taps in reverse order, x, or o.
enum Side : int64_t { kWeights = 0, kReversedWeights = 1, kFrames = 2, kOutputs = 3 };

// A matrix of coefficients (R, terms).
struct Coefficients {
  int64_t side, points, terms;
};

// coefficient = cosine cos(angle) + sine sin(angle), angle = 2 pi turn / points; where points is 0,
// the coefficient is `cosine`.
template <typename T>
struct Term {
  T cosine, sine;
  int64_t turn;
};

template <typename T>
RLSV_HOST_DEVICE Term<T> coefficient(const Coefficients& of, int64_t row, int64_t column) {
  const int64_t term = of.side == kReversedWeights ? of.terms - 1 - column : column;
  if (of.points == 0) return {T(of.side == kOutputs || row == term), T(0), 0};
  const int64_t bin = (row + 2) / 3, part = (row + 2) % 3;
  const int64_t turn = bin * (term % of.points) % of.points;
  const bool real = 2 * bin % of.points == 0;
  switch (of.side) {
    case kFrames:
      if (real) return {T(1), T(0), turn};
      return {T(part != 2), T(part == 1 ? 0 : -1), turn};
    case kOutputs: {
      const T scale = T(real ? 1 : 2) / T(of.points);
      if (real) return {scale, T(0), turn};
      return {part == 0 ? scale : part == 1 ? T(0) : -scale, part == 2 ? T(0) : -scale, turn};
    }
    default:
      if (real) return {T(1), T(0), turn};
      return {T(part == 1 ? -1 : 1), T(part != 0), turn};
  }
}

// Windows over frames (B, T, C); see csrc/cpu/frame_convolution.cpp.
struct Windows {
  int64_t batch, frames, channels, terms, dilation, tiles, advance, offset;

  RLSV_HOST_DEVICE int64_t sequences() const { return batch * tiles * dilation; }
  // Whether each item is one whole window of single numbers.
  bool are_taps() const {
    return channels == 1 && tiles == 1 && dilation == 1 && offset == 0 && terms == frames;
  }
};

}  // namespace rlsv_fast
