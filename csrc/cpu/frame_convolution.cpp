// The two transforms of short convolutions over frames (formulas:
// rlsv_fast/ops/frame_convolution.py). Windows of `terms` frames, dilation d apart, start every
// `advance` of them; q windows ("tiles") and d phases make the S = B q d sequences s = (b q + tile)
// d + phase:
//   analysis:   X[r, s, c] = sum_k M[r, k] x[b, t(s, k), c]                 x = 0 outside its
//   frames synthesis:  y[b, t, c] = a[b, t, c] + sum_{s, k : t(s, k) = t} sum_r M[k, r] X[r, s, c]
// with t(s, k) = phase + d (tile advance + k) - offset. With one matrix and its transpose they are
// adjoint to each other. Where c is one number (kernels with their taps innermost) the vectors run
// over s instead.
#include <algorithm>
#include <vector>

#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/frame_convolution.cpp"
#include "each_simd.h"
#include "frame_convolution_matrix.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

// Up to kWidth numbers, filled up with zeros.
template <typename T>
RLSV_INLINE void copy_in(const T* from, int64_t count, T* to) {
  if (count >= kWidth<T>) {
    std::memcpy(to, from, kWidth<T> * sizeof(T));
  } else {
    std::memcpy(to, from, count * sizeof(T));
    std::fill(to + count, to + kWidth<T>, T(0));
  }
}

template <typename T>
RLSV_INLINE void copy_out(const T* from, int64_t count, T* to) {
  std::memcpy(to, from, std::min(count, kWidth<T>) * sizeof(T));
}

// to = from + more; without `more` a copy.
template <typename T>
RLSV_INLINE void add_out(const T* from, const T* more, int64_t count, T* to) {
  if (!more) return copy_out(from, count, to);
  for (int64_t v = 0; v < kWidth<T> && v < count; v += kLanes<T>) {
    Vec<T> first, second;
    load(from + v, first);
    load_part(more + v, count - v, second);
    store_part<T>(first + second, count - v, to + v);
  }
}

// Sequences [begin, end) in blocks of channels.
template <typename T>
RLSV_INLINE void analyse(const Windows& shape, const Matrix<T>& matrix, const T* signal, T* result,
                         int64_t begin, int64_t end) {
  const int64_t rows = matrix.rows;
  std::vector<T> in(shape.terms * kWidth<T>), out(rows * kWidth<T>);
  const int64_t sequences = shape.sequences();
  for (int64_t s = begin; s < end; ++s) {
    const int64_t phase = s % shape.dilation, tile = s / shape.dilation % shape.tiles;
    const int64_t first = phase + shape.dilation * tile * shape.advance - shape.offset;
    const T* item = signal + s / (shape.dilation * shape.tiles) * shape.frames * shape.channels;
    for (int64_t c = 0; c < shape.channels; c += kWidth<T>) {
      const int64_t count = shape.channels - c;
      for (int64_t k = 0; k < shape.terms; ++k) {
        const int64_t t = first + shape.dilation * k;
        T* to = in.data() + k * kWidth<T>;
        if (t >= 0 && t < shape.frames)
          copy_in(item + t * shape.channels + c, count, to);
        else
          std::fill(to, to + kWidth<T>, T(0));
      }
      matrix.multiply(in.data(), out.data());
      for (int64_t r = 0; r < rows; ++r)
        copy_out(out.data() + r * kWidth<T>, count,
                 result + (r * sequences + s) * shape.channels + c);
    }
  }
}

// The least t >= 0 that differs from `value` by a multiple of `step`.
RLSV_INLINE int64_t wrapped(int64_t value, int64_t step) { return (value % step + step) % step; }

// Items and phases [begin, end), all tiles of one in turn: they may overlap.
template <typename T>
RLSV_INLINE void synthesise(const Windows& shape, const Matrix<T>& matrix, const T* spectrum,
                            const T* addend, T* result, int64_t begin, int64_t end) {
  const int64_t rows = matrix.terms;
  std::vector<T> in(rows * kWidth<T>), out(shape.terms * kWidth<T>);
  const int64_t sequences = shape.sequences();
  for (int64_t i = begin; i < end; ++i) {
    const int64_t phase = i % shape.dilation, item = i / shape.dilation;
    T* to = result + item * shape.frames * shape.channels;
    const T* start = addend ? addend + item * shape.frames * shape.channels : nullptr;
    const int64_t begin_t = phase - shape.offset;  // of the first window
    const int64_t end_t =
        begin_t + shape.dilation * ((shape.tiles - 1) * shape.advance + shape.terms);
    for (int64_t t = wrapped(begin_t, shape.dilation); t < shape.frames; t += shape.dilation) {
      if (shape.tiles > 0 && t >= begin_t && t < end_t) continue;  // a window writes it
      T* row = to + t * shape.channels;
      if (start)
        std::memcpy(row, start + t * shape.channels, shape.channels * sizeof(T));
      else
        std::fill(row, row + shape.channels, T(0));
    }
    for (int64_t tile = 0; tile < shape.tiles; ++tile) {
      const int64_t s = (item * shape.tiles + tile) * shape.dilation + phase;
      const int64_t first = begin_t + shape.dilation * tile * shape.advance;
      // What the window before has written is added to.
      const int64_t written = tile == 0 ? 0 : shape.terms - shape.advance;
      for (int64_t c = 0; c < shape.channels; c += kWidth<T>) {
        const int64_t count = shape.channels - c;
        for (int64_t r = 0; r < rows; ++r)
          copy_in(spectrum + (r * sequences + s) * shape.channels + c, count,
                  in.data() + r * kWidth<T>);
        matrix.multiply(in.data(), out.data());
        for (int64_t k = 0; k < shape.terms; ++k) {
          const int64_t t = first + shape.dilation * k;
          if (t < 0 || t >= shape.frames) continue;
          const int64_t at = t * shape.channels + c;
          const T* more = k < written ? to + at : start ? start + at : nullptr;
          add_out(out.data() + k * kWidth<T>, more, count, to + at);
        }
      }
    }
  }
}

// One channel, one window per item and no dilation: blocks [begin, end) of kWidth items.
template <typename T>
RLSV_INLINE void analyse_taps(const Windows& shape, const Matrix<T>& matrix, const T* signal,
                              T* result, int64_t begin, int64_t end) {
  const int64_t rows = matrix.rows;
  std::vector<T> in(shape.terms * kWidth<T>), out(rows * kWidth<T>);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t s = block * kWidth<T>, count = std::min(shape.batch - s, kWidth<T>);
    const T* from = signal + s * shape.frames;
    for (int64_t lane = 0; lane < count; ++lane)
      for (int64_t k = 0; k < shape.terms; ++k)
        in[k * kWidth<T> + lane] = from[lane * shape.frames + k];
    matrix.multiply(in.data(), out.data());
    for (int64_t r = 0; r < rows; ++r)
      copy_out(out.data() + r * kWidth<T>, count, result + r * shape.batch + s);
  }
}

template <typename T>
RLSV_INLINE void synthesise_taps(const Windows& shape, const Matrix<T>& matrix, const T* spectrum,
                                 const T* addend, T* result, int64_t begin, int64_t end) {
  const int64_t rows = matrix.terms;
  std::vector<T> in(rows * kWidth<T>), out(shape.terms * kWidth<T>);
  for (int64_t block = begin; block < end; ++block) {
    const int64_t s = block * kWidth<T>, count = std::min(shape.batch - s, kWidth<T>);
    for (int64_t r = 0; r < rows; ++r)
      copy_in(spectrum + r * shape.batch + s, count, in.data() + r * kWidth<T>);
    matrix.multiply(in.data(), out.data());
    for (int64_t lane = 0; lane < count; ++lane) {
      const int64_t at = (s + lane) * shape.frames;
      for (int64_t k = 0; k < shape.terms; ++k)
        result[at + k] = out[k * kWidth<T> + lane] + (addend ? addend[at + k] : T(0));
    }
  }
}

Tensor frame_convolution_analysis(const Tensor& signal, int64_t side, int64_t points, int64_t terms,
                                  int64_t first, int64_t rows, int64_t dilation, int64_t tiles,
                                  int64_t advance, int64_t offset) {
  const Coefficients of{side, points, terms};
  check_frame_convolution(signal, of, first, rows, dilation, tiles, advance);
  const Windows shape{signal.size(0), signal.size(1), signal.size(2), terms,
                      dilation,       tiles,          advance,        offset};
  Tensor result = torch::stable::new_empty(signal, {rows, shape.sequences(), shape.channels});
  if (result.numel() == 0) return result;
  dispatch_floating(signal, "frame_convolution", [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> matrix = make_matrix<T>(of, first, rows, false);
    const T* in = read<T>(signal);
    T* out = write<T>(result);
    const int64_t cost = rows * terms * (shape.channels / kLanes<T> + 1);
    if (shape.are_taps()) {
      parallel(
          (shape.batch + kWidth<T> - 1) / kWidth<T>, cost * kVectors,
          [&](int64_t begin, int64_t end) { analyse_taps(shape, matrix, in, out, begin, end); });
    } else {
      parallel(shape.sequences(), cost,
               [&](int64_t begin, int64_t end) { analyse(shape, matrix, in, out, begin, end); });
    }
  });
  return result;
}

Tensor frame_convolution_synthesis(const Tensor& spectrum, const Tensor& addend, int64_t side,
                                   int64_t points, int64_t terms, int64_t first, int64_t batch,
                                   int64_t frames, int64_t dilation, int64_t tiles, int64_t advance,
                                   int64_t offset) {
  const Coefficients of{side, points, terms};
  const int64_t rows = spectrum.size(0);
  check_frame_convolution(spectrum, of, first, rows, dilation, tiles, advance);
  const Windows shape{batch, frames, spectrum.size(2), terms, dilation, tiles, advance, offset};
  check_frame_convolution_synthesis(spectrum, addend, shape);
  Tensor result = torch::stable::new_empty(spectrum, {batch, frames, shape.channels});
  if (result.numel() == 0) return result;
  dispatch_floating(spectrum, "frame_convolution", [&](auto zero) {
    using T = decltype(zero);
    const Matrix<T> matrix = make_matrix<T>(of, first, rows, true);
    const T* in = read<T>(spectrum);
    const T* start = addend.numel() ? read<T>(addend) : nullptr;
    T* out = write<T>(result);
    const int64_t cost = rows * terms * (shape.channels / kLanes<T> + 1);
    if (shape.are_taps()) {
      parallel((batch + kWidth<T> - 1) / kWidth<T>, cost * kVectors,
               [&](int64_t begin, int64_t end) {
                 synthesise_taps(shape, matrix, in, start, out, begin, end);
               });
    } else {
      parallel(batch * dilation, cost * tiles, [&](int64_t begin, int64_t end) {
        synthesise(shape, matrix, in, start, out, begin, end);
      });
    }
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_frame_convolution_analysis", frame_convolution_analysis);
  RLSV_IMPL(m, "_frame_convolution_synthesis", frame_convolution_synthesis);
}
#endif
