// The matrices of frame_convolution's transforms and their products with blocks of kWidth channels.
#if defined(RLSV_FRAME_CONVOLUTION_MATRIX_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_FRAME_CONVOLUTION_MATRIX_H)
#undef RLSV_FRAME_CONVOLUTION_MATRIX_H
#else
#define RLSV_FRAME_CONVOLUTION_MATRIX_H
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "frame_convolution_rules.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {

// Sums kept in registers: kRows of kVectors vectors, half of those there are.
constexpr int64_t kRows = 4;
constexpr int64_t kVectors = RLSV_VECTOR_BYTES == 64 ? 4 : 2;
template <typename T>
constexpr int64_t kWidth = kVectors * kLanes<T>;

// out[r][lane] = sum_k matrix[r, k] in[k][lane], both `kWidth` wide; count rows, at most kRows.
template <typename T, int64_t count>
RLSV_INLINE void multiply_rows(const T* matrix, int64_t terms, const T* in, T* out) {
  Vec<T> sums[count][kVectors] = {};
  for (int64_t k = 0; k < terms; ++k) {
    Vec<T> term[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) load(in + k * kWidth<T> + v * kLanes<T>, term[v]);
#pragma GCC unroll 4
    for (int64_t r = 0; r < count; ++r)
#pragma GCC unroll 4
      for (int64_t v = 0; v < kVectors; ++v) sums[r][v] += matrix[r * terms + k] * term[v];
  }
  for (int64_t r = 0; r < count; ++r)
    for (int64_t v = 0; v < kVectors; ++v)
      store<T>(sums[r][v], out + r * kWidth<T> + v * kLanes<T>);
}

// Coefficients as a matrix; or, of a unit matrix, which input row each output row is (none: -1).
template <typename T>
struct Matrix {
  int64_t rows, terms;
  std::vector<T> entries;
  std::vector<int64_t> source;

  RLSV_INLINE void multiply(const T* in, T* out) const {
    if (!source.empty()) {
      for (int64_t r = 0; r < rows; ++r) {
        T* to = out + r * kWidth<T>;
        if (source[r] < 0)
          std::fill(to, to + kWidth<T>, T(0));
        else
          std::memcpy(to, in + source[r] * kWidth<T>, kWidth<T> * sizeof(T));
      }
      return;
    }
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows)
      multiply_rows<T, kRows>(entries.data() + r * terms, terms, in, out + r * kWidth<T>);
    for (; r < rows; ++r)
      multiply_rows<T, 1>(entries.data() + r * terms, terms, in, out + r * kWidth<T>);
  }
};

// Rows [first, first + rows) of a matrix of coefficients, (rows, terms) or transposed.
template <typename T>
Matrix<T> make_matrix(const Coefficients& of, int64_t first, int64_t rows, bool transposed) {
  Matrix<T> matrix{transposed ? of.terms : rows, transposed ? rows : of.terms, {}, {}};
  if (of.points == 0 && of.side != kOutputs) {
    matrix.source.assign(matrix.rows, -1);
    for (int64_t row = 0; row < rows && first + row < of.terms; ++row) {
      const int64_t term = of.side == kReversedWeights ? of.terms - 1 - first - row : first + row;
      matrix.source[transposed ? term : row] = transposed ? row : term;
    }
    return matrix;
  }
  std::vector<double> cosines(of.points, 1.0), sines(of.points);
  for (int64_t turn = 1; turn < of.points; ++turn) {
    const double angle = 6.283185307179586476925 * double(turn) / double(of.points);
    cosines[turn] = std::cos(angle);
    sines[turn] = std::sin(angle);
  }
  matrix.entries.resize(rows * of.terms);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < of.terms; ++k) {
      const Term<double> term = coefficient<double>(of, first + row, k);
      const double value = of.points == 0
                               ? term.cosine
                               : term.cosine * cosines[term.turn] + term.sine * sines[term.turn];
      matrix.entries[transposed ? k * rows + row : row * of.terms + k] = T(value);
    }
  }
  return matrix;
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
