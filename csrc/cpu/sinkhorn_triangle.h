// A symmetric matrix S (N, N) kept as the upper half of its square blocks, as wide as a vector, in
// the order in which a product reads them: half the bytes, in one stream, and bytes are what
// products of this size wait for. Padding holds whatever it is given; products need zeros there.
//
// A strip is the blocks of kBlock rows: the diagonal block, then for kRows rows at a time what lies
// to its right, a vector of each row after the other.
#if defined(RLSV_SINKHORN_TRIANGLE_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_TRIANGLE_H)
#undef RLSV_SINKHORN_TRIANGLE_H
#else
#define RLSV_SINKHORN_TRIANGLE_H
#endif

#include "sinkhorn.h"
#include "transpose.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T>
struct Triangle {
  static constexpr int64_t kBlock = kLanes<T>;
  // Rows whose sums and weights fit the registers beside each other.
  static constexpr int64_t kRows = std::min<int64_t>(kBlock, RLSV_VECTOR_BYTES == 64 ? 8 : 4);

  int64_t size, blocks;
  T* entries;
  bool upwards = false;  // the way of the last product, or of filling

  static int64_t padded(int64_t size) { return round_up(size, kBlock); }
  static int64_t numbers(int64_t size) { return padded(size) * (padded(size) + kBlock) / 2; }

  // Where the strip of block row `index` begins, and a row's vector in it.
  RLSV_INLINE T* strip(int64_t index) const {
    return entries + kBlock * kBlock * (index * blocks - index * (index - 1) / 2);
  }
  RLSV_INLINE static T* find(T* strip, int64_t row, int64_t right, int64_t column) {
    if (column == 0) return strip + row * kBlock;
    const int64_t part = row / kRows, at = (part * right + column - 1) * kRows + row % kRows;
    return strip + (kBlock + at) * kBlock;
  }

  // result = S x. Each vector passes through change(row, column, vector) before its use, where
  // (row, column) is its first entry. x is zero in the padding. Every other product goes upwards:
  // what the last one read at its end, the innermost cache still has.
  template <typename Change>
  RLSV_INLINE void multiply(const T* x, T* result, const Change& change) {
    std::fill(result, result + blocks * kBlock, T(0));
    upwards = !upwards;
    for (int64_t step = 0; step < blocks; ++step) {
      const int64_t i = upwards ? blocks - 1 - step : step;
      const T *diagonal = strip(i), *at = diagonal + kBlock * kBlock;
      T sums[kBlock];
      for (int64_t part = 0; part < kBlock; part += kRows) {
        Vec<T> rows[kRows], weights[kRows], across, value;
        load(x + i * kBlock, across);
        const int64_t first = i * kBlock + part;
#pragma GCC unroll 8
        for (int64_t k = 0; k < kRows; ++k) {
          weights[k] = Vec<T>{} + x[first + k];
          load(diagonal + (part + k) * kBlock, value);
          change(first + k, i * kBlock, value);
          rows[k] = value * across;
        }
        for (int64_t j = i + 1; j < blocks; ++j, at += kRows * kBlock) {
          Vec<T> below[2] = {}, total;  // two chains of additions
          load(x + j * kBlock, across);
#pragma GCC unroll 8
          for (int64_t k = 0; k < kRows; ++k) {
            load(at + k * kBlock, value);
            change(first + k, j * kBlock, value);
            rows[k] += value * across;
            below[k % 2] += value * weights[k];
          }
          load(result + j * kBlock, total);
          store<T>(total + (below[0] + below[1]), result + j * kBlock);
        }
        sum_each<T>(rows, sums + part);
      }
      Vec<T> sum, total;
      load(sums, sum);
      load(result + i * kBlock, total);
      store<T>(total + sum, result + i * kBlock);
    }
  }
  RLSV_INLINE void multiply(const T* x, T* result) {
    multiply(x, result, [](int64_t, int64_t, Vec<T>&) {});
  }

  // Makes every vector by make(row, column, vector).
  template <typename Make>
  RLSV_INLINE void fill(const Make& make) {
    upwards = false;  // as every problem's: bits must not depend on those before
    Vec<T> value;
    for (int64_t i = 0; i < blocks; ++i)
      for (int64_t k = 0; k < kBlock; ++k) {
        make(i * kBlock + k, i * kBlock, value);
        store<T>(value, find(strip(i), k, blocks - i - 1, 0));
        T* right = find(strip(i), k, blocks - i - 1, 1);
        for (int64_t j = i + 1; j < blocks; ++j, right += kRows * kBlock) {
          make(i * kBlock + k, j * kBlock, value);
          store<T>(value, right);
        }
      }
  }

  // Writes the whole matrix, densely, each vector changed by change(row, column, vector); what lies
  // below the diagonal mirrors what lies above.
  template <typename Change>
  RLSV_INLINE void write(T* to, const Change& change) const {
    for (int64_t i = 0; i < blocks; ++i)
      for (int64_t j = i; j < blocks; ++j) {
        Vec<T> block[kBlock];
#pragma GCC unroll 16
        for (int64_t k = 0; k < kBlock; ++k) {
          load(find(strip(i), k, blocks - i - 1, j - i), block[k]);
          change(i * kBlock + k, j * kBlock, block[k]);
        }
        write_block(block, i * kBlock, j * kBlock, to);
        if (i == j) continue;
        transpose<T>(block);
        write_block(block, j * kBlock, i * kBlock, to);
      }
  }

 private:
  RLSV_INLINE void write_block(const Vec<T> (&block)[kBlock], int64_t row, int64_t column,
                               T* to) const {
    if (row + kBlock <= size && column + kBlock <= size) {
#pragma GCC unroll 16
      for (int64_t k = 0; k < kBlock; ++k) store<T>(block[k], to + (row + k) * size + column);
    } else {
      for (int64_t k = 0; k < std::min(kBlock, size - row); ++k)
        store_cut<T>(block[k], size - column, to + (row + k) * size + column);
    }
  }
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
