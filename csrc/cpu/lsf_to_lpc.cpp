// Coefficients a_1..a_P of A(z) = 1 + sum_k a_k z^-k from its line spectral frequencies w, row by
// row, in double:
//   P(z) = (1 + z^-1) prod_{i even} (1 - 2 cos w_i z^-1 + z^-2)        i from 0; P even
//   Q(z) = (1 - z^-1) prod_{i odd}  (1 - 2 cos w_i z^-1 + z^-2)
//   P(z) = prod_{i even} (...),   Q(z) = (1 - z^-2) prod_{i odd} (...)  P odd
//   A(z) = (P(z) + Q(z)) / 2
//   dw_i = sin w_i sum_k g_k [z^-k] z^-1 R(z) / (1 - 2 cos w_i z^-1 + z^-2),  R the one with w_i
// A row per lane.
#include <algorithm>

#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/lsf_to_lpc.cpp"
#include "each_simd.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "lsf_to_lpc";
constexpr int64_t kRows = kLanes<double>;
using Row = Vec<double>;  // a number of each row

// Number k of `rows` rows of `length`; zero for rows that do not exist.
template <typename T>
RLSV_INLINE void gather(const T* from, int64_t rows, int64_t length, int64_t k, Row& to) {
  double lanes[kRows] = {};
  for (int64_t lane = 0; lane < rows; ++lane) lanes[lane] = double(from[lane * length + k]);
  load(lanes, to);
}

template <typename T>
RLSV_INLINE void scatter(const Row& from, int64_t rows, int64_t length, int64_t k, T* to) {
  double lanes[kRows];
  store<double>(from, lanes);
  for (int64_t lane = 0; lane < rows; ++lane) to[lane * length + k] = T(lanes[lane]);
}

// The product of all factors of P or Q.
template <typename T>
RLSV_INLINE void multiply_factors(const T* lsf, int64_t rows, int64_t order, bool second,
                                  Row* product) {
  const int64_t factors = lsf_factors(order, second), stride = factor_stride(factors);
  product[0] = Row{} + 1.0;
  for (int64_t made = 0, i = 0; made < factors; ++made, i = (i + stride) % factors) {
    Row radians, cosine, sine;
    gather(lsf, rows, order, 2 * i + second, radians);
    cosine_and_sine<Row>(radians, cosine, sine);
    const Row linear = -2.0 * cosine;
    multiply_factor<Row>(product, 1, made, linear);
  }
}

template <typename T>
void convert(const T* lsf, int64_t rows, int64_t order, T* lpc) {
  Row products[2][kMostFactors + 1];
  for (const bool second : {false, true})
    multiply_factors(lsf, rows, order, second, products[second]);
  for (int64_t k = 1; k <= order; ++k) {
    Row value;
    lpc_coefficient<Row>(products[0], products[1], 1, order, k, value);
    scatter(value, rows, order, k - 1, lpc);
  }
}

template <typename T>
void convert_back(const T* upstream, const T* lsf, int64_t rows, int64_t order, T* result) {
  Row grad[kMostLines], product[kMostFactors + 1], folded[kMostFactors];
  for (int64_t k = 0; k < order; ++k) gather(upstream, rows, order, k, grad[k]);
  for (const bool second : {false, true}) {
    const int64_t factors = lsf_factors(order, second);
    multiply_factors(lsf, rows, order, second, product);
    for (int64_t k = 0; k < factors; ++k) fold_gradient<Row>(grad, 1, order, second, k, folded[k]);
    for (int64_t i = second; i < order; i += 2) {
      Row radians, value;
      gather(lsf, rows, order, i, radians);
      lsf_gradient<Row>(product, folded, 1, factors, radians, value);
      scatter(value, rows, order, i, result);
    }
  }
}

// body(row, count) for groups of rows.
template <typename Body>
void for_rows(int64_t rows, int64_t order, const Body& body) {
  const int64_t groups = (rows + kRows - 1) / kRows;
  parallel(groups, order * order + 20 * order, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i * kRows, std::min(kRows, rows - i * kRows));
  });
}

Tensor lsf_to_lpc_forward(const Tensor& lsf) {
  check_lsf_to_lpc(lsf);
  const int64_t rows = lsf.size(0), order = lsf.size(1);
  Tensor result = torch::stable::new_empty(lsf, {rows, order});
  dispatch_floating(lsf, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T* in = read<T>(lsf);
    T* out = write<T>(result);
    for_rows(rows, order, [&](int64_t row, int64_t count) {
      convert(in + row * order, count, order, out + row * order);
    });
  });
  return result;
}

Tensor lsf_to_lpc_backward(const Tensor& grad, const Tensor& lsf) {
  check_lsf_to_lpc_backward(grad, lsf);
  const int64_t rows = lsf.size(0), order = lsf.size(1);
  Tensor result = torch::stable::new_empty(lsf, {rows, order});
  dispatch_floating(lsf, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *upstream = read<T>(grad), *in = read<T>(lsf);
    T* out = write<T>(result);
    for_rows(rows, order, [&](int64_t row, int64_t count) {
      const int64_t at = row * order;
      convert_back(upstream + at, in + at, count, order, out + at);
    });
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_lsf_to_lpc_forward", lsf_to_lpc_forward);
  RLSV_IMPL(m, "_lsf_to_lpc_backward", lsf_to_lpc_backward);
}
#endif
