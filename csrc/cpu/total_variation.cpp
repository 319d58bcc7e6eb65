// Total variation of representations A (B, C, T), with differences along frames and components
//   d[c, t] = A[c, t] - A[c, t-1],  1 <= t < T       e[c, t] = A[c, t] - A[c-1, t],  1 <= c < C
//   norm 1 (EUSIPCO 2020, eq. 1):  V[b] = (sum |d| + sum |e|) / (C T)    sums over c, t of item b
//   norm 2 (published code):       V    = |d|_2 / T + |e|_2 / C          norms over the whole batch
// and, with n running over the neighbours of (c, t) that exist,
//   norm 1:  dA[c, t] = G[b] / (C T) sum_n sign(A[c, t] - A[n])
//   norm 2:  dA[c, t] = G sum_n (A[c, t] - A[n]) / (T |d|_2 or C |e|_2)  zero where a norm is zero
// A neighbour that does not exist is replaced by the cell itself, which contributes nothing.
#include <cmath>

#include "chunked_sums.h"
#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/total_variation.cpp"
#include "each_simd.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "total_variation";
constexpr int64_t kChunkCells = 8192;
template <typename T>
constexpr int64_t kChain = 32 * kLanes<T>;

template <bool kSquared, typename V>
RLSV_INLINE void accumulate(const V& difference, V& total) {
  if constexpr (kSquared) {
    total += difference * difference;
  } else {
    total += difference < 0 ? -difference : difference;
  }
}

// sums[0] over d, sums[1] over e, of the components [begin, end) of one item: short chains of
// additions in T, their lanes added in double.
template <bool kSquared, typename T>
RLSV_INLINE void sum_of_differences(const T* item, int64_t frames, int64_t begin, int64_t end,
                                    double* sums) {
  Vec<double> along_frames = {}, along_components = {};
  double first_frame = 0.0;
  for (int64_t c = begin; c < end; ++c) {
    const T* row = item + c * frames;
    const T* above = c > 0 ? row - frames : row;
    accumulate<kSquared>(double(row[0]) - double(above[0]), first_frame);
    for (int64_t chain = 1; chain < frames; chain += kChain<T>) {
      const int64_t stop = std::min(chain + kChain<T>, frames);
      Vec<T> by_frame = {}, by_component = {};
      for (int64_t t = chain; t < stop; t += kLanes<T>) {
        Vec<T> here, left, up;
        load_part(row + t, stop - t, here);
        load_part(row + t - 1, stop - t, left);
        load_part(above + t, stop - t, up);
        accumulate<kSquared, Vec<T>>(here - left, by_frame);
        accumulate<kSquared, Vec<T>>(here - up, by_component);
      }
      add_lanes<T>(by_frame, along_frames);
      add_lanes<T>(by_component, along_components);
    }
  }
  sums[0] = sum<double>(along_frames);
  sums[1] = sum<double>(along_components) + first_frame;
}

template <typename T>
struct Slopes {
  T frames, components;
};

template <typename T, typename V>
RLSV_INLINE void add_sign(const V& here, const V& other, V& total) {
  const V zero = {}, one = zero + T(1);
  total += here > other ? one : zero;
  total -= here < other ? one : zero;
}

// For one cell or a vector of them.
template <bool kSquared, typename T, typename V>
RLSV_INLINE void cell_gradient(const V& here, const V& before, const V& after, const V& up,
                               const V& down, const Slopes<T>& slopes, V& grad) {
  if constexpr (kSquared) {
    grad = ((here - before) + (here - after)) * slopes.frames +
           ((here - up) + (here - down)) * slopes.components;
  } else {
    V signs = {};
    add_sign<T, V>(here, before, signs);
    add_sign<T, V>(here, after, signs);
    add_sign<T, V>(here, up, signs);
    add_sign<T, V>(here, down, signs);
    grad = signs * slopes.frames;
  }
}

template <bool kSquared, typename T>
RLSV_INLINE void slopes_of_row(const T* row, const T* above, const T* below, int64_t frames,
                               const Slopes<T>& slopes, T* grad) {
  const int64_t last = frames - 1;
  cell_gradient<kSquared, T, T>(row[0], row[0], row[last > 0], above[0], below[0], slopes, grad[0]);
  for (int64_t t = 1; t < last; t += kLanes<T>) {
    // The last vector overlaps the one before it rather than being cut short.
    const int64_t at = std::max<int64_t>(std::min(t, last - kLanes<T>), 1), count = last - at;
    Vec<T> here, before, after, up, down, result;
    load_part(row + at, count, here);
    load_part(row + at - 1, count, before);
    load_part(row + at + 1, count, after);
    load_part(above + at, count, up);
    load_part(below + at, count, down);
    cell_gradient<kSquared, T, Vec<T>>(here, before, after, up, down, slopes, result);
    store_part<T>(result, count, grad + at);
  }
  if (last > 0)
    cell_gradient<kSquared, T, T>(row[last], row[last - 1], row[last], above[last], below[last],
                                  slopes, grad[last]);
}

template <typename T>
void sum_differences(const T* item, int64_t frames, bool squared, int64_t begin, int64_t end,
                     double* sums) {
  if (squared) return sum_of_differences<true>(item, frames, begin, end, sums);
  sum_of_differences<false>(item, frames, begin, end, sums);
}

template <typename T>
void backward_row(const T* row, const T* above, const T* below, int64_t frames, bool squared,
                  const Slopes<T>& slopes, T* grad) {
  if (squared) return slopes_of_row<true>(row, above, below, frames, slopes, grad);
  slopes_of_row<false>(row, above, below, frames, slopes, grad);
}

// Also returns the two norms |d|_2, |e|_2 (float64) where norm is 2, nothing where it is 1.
std::tuple<Tensor, Tensor> total_variation_forward(const Tensor& representation, int64_t norm) {
  check_total_variation(representation, norm);
  const int64_t batch = representation.size(0), components = representation.size(1),
                frames = representation.size(2), cells = components * frames;
  const bool squared = norm == 2;
  Tensor norms = torch::stable::new_empty(representation, {squared ? 2 : 0}, ScalarType::Double);
  Tensor value = squared ? torch::stable::new_empty(representation, {})
                         : torch::stable::new_empty(representation, {batch});
  dispatch_floating(representation, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T* in = read<T>(representation);
    T* out = write<T>(value);
    const int64_t chunk = frames > 0 ? std::max<int64_t>(kChunkCells / frames, 1) : 1;
    const std::vector<double> sums =
        chunked_sums<2>(batch, frames > 0 ? components : 0, chunk, chunk * frames,
                        [&](int64_t item, int64_t begin, int64_t end, double* partial) {
                          sum_differences(in + item * cells, frames, squared, begin, end, partial);
                        });
    if (!squared) {
      for (int64_t b = 0; b < batch; ++b)
        out[b] = T(cells > 0 ? (sums[2 * b] + sums[2 * b + 1]) / double(cells) : 0.0);
      return;
    }
    double* roots = write<double>(norms);
    roots[0] = roots[1] = 0.0;
    for (int64_t i = 0; i < 2 * batch; ++i) roots[i % 2] += sums[i];
    for (int64_t i = 0; i < 2; ++i) roots[i] = std::sqrt(roots[i]);
    out[0] = T(cells > 0 ? roots[0] / double(frames) + roots[1] / double(components) : 0.0);
  });
  return {value, norms};
}

Tensor total_variation_backward(const Tensor& grad, const Tensor& representation,
                                const Tensor& norms, int64_t norm) {
  check_total_variation_backward(grad, representation, norms, norm);
  const int64_t batch = representation.size(0), components = representation.size(1),
                frames = representation.size(2), cells = components * frames;
  const bool squared = norm == 2;
  Tensor result = torch::stable::new_empty(representation, {batch, components, frames});
  if (batch * cells == 0) return result;
  dispatch_floating(representation, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *in = read<T>(representation), *upstream = read<T>(grad);
    const double* roots = read<double>(norms);
    T* out = write<T>(result);
    const auto slopes = [&](int64_t item) -> Slopes<T> {
      const double flow = double(upstream[squared ? 0 : item]);
      if (!squared) return {T(flow / double(cells)), T(0)};
      return {T(roots[0] > 0.0 ? flow / (roots[0] * double(frames)) : 0.0),
              T(roots[1] > 0.0 ? flow / (roots[1] * double(components)) : 0.0)};
    };
    parallel(batch * components, frames, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = in + i * frames;
        const int64_t c = i % components;
        backward_row(row, c > 0 ? row - frames : row, c + 1 < components ? row + frames : row,
                     frames, squared, slopes(i / components), out + i * frames);
      }
    });
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_total_variation_forward", total_variation_forward);
  RLSV_IMPL(m, "_total_variation_backward", total_variation_backward);
}
#endif
