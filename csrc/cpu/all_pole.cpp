// All-pole filters a (B, T, P) that change from frame to frame: frame t of signal x (B, T S) has L
// samples from t S on, zeros past the end, and is filtered from rest, faded and added:
//   y_t[n] = x[t S + n] - sum_k a_t[k] y_t[n - k]       0 <= n < L, 1 <= k <= P, y_t[n < 0] = 0
//   out[m] = sum_t h_t[m - t S] y_t[m - t S]            0 <= m < T S, frames in ascending order
//   h_t[n] = sin^2(pi n / L), but 1 where t = 0 and 2 n < L
// and backward, the transposed filters running back in time:
//   u_t[n] = h_t[n] G[t S + n] - sum_k a_t[k] u_t[n + k]   u_t[n >= L] = 0, G zero past the end
//   dx[m] = sum_t u_t[m - t S]      da_t[k] = -sum_n u_t[n] y_t[n - k]
// A frame per lane. A square of numbers is filtered at once: what earlier samples give to all of
// its samples, then what these give each other.
#include <algorithm>
#include <vector>

#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/all_pole.cpp"
#include "each_simd.h"
#include "gather.h"
#include "simd.h"
#include "transpose.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "all_pole";

// Neighbouring samples of as many frames, a frame per lane.
template <typename T>
struct Square {
  static constexpr int64_t kSide = kLanes<T>;
  Vec<T> sample[kSide];
};

// One stretch of numbers per lane; of no length in the lanes that have no frame.
template <typename T>
struct Stretches {
  T* begin[kLanes<std::remove_const_t<T>>];
  int64_t length[kLanes<std::remove_const_t<T>>];
};

// Numbers at, at + 1, ... of every stretch; zero past its end.
template <typename T>
RLSV_INLINE void load_square(const Stretches<const T>& from, int64_t at, Square<T>& square) {
#pragma GCC unroll 16
  for (int64_t lane = 0; lane < kLanes<T>; ++lane)
    load_part(from.begin[lane] + at, from.length[lane] - at, square.sample[lane]);
  transpose<T>(square.sample);
}

template <typename T>
RLSV_INLINE void store_square(const Square<T>& square, int64_t at, const Stretches<T>& to) {
  Square<T> turned = square;
  transpose<T>(turned.sample);
#pragma GCC unroll 16
  for (int64_t lane = 0; lane < kLanes<T>; ++lane)
    store_part<T>(turned.sample[lane], to.length[lane] - at, to.begin[lane] + at);
}

template <typename T>
RLSV_INLINE void reverse(const Square<T>& from, Square<T>& to) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < kLanes<T>; ++i) to.sample[i] = from.sample[kLanes<T> - 1 - i];
}

// Frames that are filtered side by side, and their filters.
template <typename T>
struct Group {
  static constexpr int64_t kWidth = kLanes<T>;
  PoleShape shape;
  int64_t row, rows;                                     // of all frames, its first; how many
  alignas(64) T filter[(kMostPoles + kWidth) * kWidth];  // a[k] of every lane, zero for k > P
  Vec<T> first;                                          // 1 in lanes with frame 0

  RLSV_INLINE Group(const PoleShape& shape, int64_t number, const T* coefficients)
      : shape(shape), row(number * kWidth), rows(std::min(kWidth, shape.rows() - row)) {
    for (int64_t k = 1; k < shape.order + kWidth; ++k)
      for (int64_t lane = 0; lane < kWidth; ++lane)
        filter[k * kWidth + lane] =
            k <= shape.order ? coefficients[place(lane) * shape.order + k - 1] : T(0);
    T lanes[kWidth];
    for (int64_t lane = 0; lane < kWidth; ++lane) lanes[lane] = T(place(lane) % shape.frames == 0);
    load(lanes, first);
  }

  RLSV_INLINE int64_t place(int64_t lane) const { return row + std::min(lane, rows - 1); }

  // What the frames see of a signal.
  template <typename Number>
  RLSV_INLINE Stretches<Number> of_signal(Number* signal) const {
    Stretches<Number> stretches;
    for (int64_t lane = 0; lane < kWidth; ++lane) {
      const int64_t start = place(lane) % shape.frames * shape.hop;
      stretches.begin[lane] = signal + place(lane) / shape.frames * shape.samples() + start;
      stretches.length[lane] = lane < rows ? std::min(shape.frame, shape.samples() - start) : 0;
    }
    return stretches;
  }

  // The frames where they lie one after the other.
  template <typename Number>
  RLSV_INLINE Stretches<Number> of_frames(Number* frames) const {
    Stretches<Number> stretches;
    for (int64_t lane = 0; lane < kWidth; ++lane) {
      stretches.begin[lane] = frames + place(lane) * shape.frame;
      stretches.length[lane] = lane < rows ? shape.frame : 0;
    }
    return stretches;
  }
};

// Filters a square, whose earlier results lie before `next`; keeps the new ones there. The oldest
// come first: the newest may still be on their way.
template <typename T>
RLSV_INLINE void continue_filter(const T* filter, int64_t order, T* next, Square<T>& square) {
  constexpr int64_t kSide = Square<T>::kSide;
  Square<T> sums = square;
  for (int64_t k = order; k > 0; --k) {
    Vec<T> past;
    load(next - k * kSide, past);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kSide; ++i) {
      Vec<T> factor;
      load(filter + (k + i) * kSide, factor);
      sums.sample[i] -= factor * past;
    }
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < kSide; ++i) {
    store<T>(sums.sample[i], next + i * kSide);
#pragma GCC unroll 16
    for (int64_t j = i + 1; j < kSide; ++j) {
      Vec<T> factor;
      load(filter + (j - i) * kSide, factor);
      sums.sample[j] -= factor * sums.sample[i];
    }
  }
  square = sums;
}

// Numbers of a group that are at hand: `streams` rows of samples with P zeros before them.
template <typename T>
class Memory {
 public:
  Memory(const PoleShape& shape, int64_t streams)
      : size_((shape.order + padded(shape)) * kLanes<T>), numbers_(streams * size_ + kAlign) {}

  static int64_t padded(const PoleShape& shape) {
    return (shape.frame + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  }
  // Where sample 0 of a stream lies; what comes before it is zero.
  T* stream(int64_t index, const PoleShape& shape) {
    const auto address = reinterpret_cast<uintptr_t>(numbers_.data());
    T* begin = numbers_.data() + (64 - address % 64) % 64 / sizeof(T) + index * size_;
    std::fill(begin, begin + shape.order * kLanes<T>, T(0));
    return begin + shape.order * kLanes<T>;
  }

 private:
  static constexpr int64_t kAlign = 64 / sizeof(T);
  int64_t size_;
  std::vector<T> numbers_;
};

template <typename T>
RLSV_INLINE void filter_group(const Group<T>& group, const T* signal, T* past, T* filtered) {
  const Stretches<const T> from = group.template of_signal<const T>(signal);
  const Stretches<T> to = group.template of_frames<T>(filtered);
  for (int64_t at = 0; at < group.shape.frame; at += kLanes<T>) {
    Square<T> square;
    load_square(from, at, square);
    continue_filter(group.filter, group.shape.order, past + at * kLanes<T>, square);
    store_square(square, at, to);
  }
}

// sums[k] += sum_n u[n] y[n - k - 1] over a square of u at y's sample 0.
template <typename T>
RLSV_INLINE void correlate(const Square<T>& flow, const T* outputs, int64_t order, T* sums) {
  for (int64_t k = 0; k < order; ++k) {
    Vec<T> sum = {}, total;
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes<T>; ++i) {
      Vec<T> past;
      load(outputs + (i - k - 1) * kLanes<T>, past);
      sum += flow.sample[i] * past;
    }
    load(sums + k * kLanes<T>, total);
    store<T>(total + sum, sums + k * kLanes<T>);
  }
}

// `window` has zeros up to the padded length; `outputs` and `past` are streams of a Memory.
template <typename T>
RLSV_INLINE void filter_group_back(const Group<T>& group, const T* grad, const T* filtered,
                                   const double* window, T* outputs, T* past, T* flow,
                                   T* grad_coefficients) {
  constexpr int64_t kSide = Square<T>::kSide;
  const int64_t order = group.shape.order, padded = Memory<T>::padded(group.shape);
  const Stretches<const T> from = group.template of_signal<const T>(grad);
  const Stretches<const T> kept = group.template of_frames<const T>(filtered);
  const Stretches<T> to = group.template of_frames<T>(flow);
  Square<T> square, reversed;
  for (int64_t at = 0; at < padded; at += kSide) {
    load_square(kept, at, square);
    for (int64_t i = 0; i < kSide; ++i) store<T>(square.sample[i], outputs + (at + i) * kSide);
  }
  alignas(64) T sums[kMostPoles * kSide] = {};
  for (int64_t at = padded - kSide; at >= 0; at -= kSide, past += kSide * kSide) {
    load_square(from, at, square);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kSide; ++i) {
      const Vec<T> one = Vec<T>{} + T(1), faded = Vec<T>{} + T(window[at + i]);
      const bool whole = is_whole(0, at + i, group.shape.frame);
      square.sample[i] *= whole && group.first != 0 ? one : faded;
    }
    reverse(square, reversed);
    continue_filter(group.filter, order, past, reversed);
    reverse(reversed, square);
    store_square(square, at, to);
    correlate(square, outputs + at * kSide, order, sums);
  }
  for (int64_t lane = 0; lane < group.rows; ++lane)
    for (int64_t k = 0; k < order; ++k)
      grad_coefficients[group.place(lane) * order + k] = -sums[k * kSide + lane];
}

std::vector<double> make_window(const PoleShape& shape, int64_t length) {
  std::vector<double> window(length);
  for (int64_t n = 0; n < shape.frame; ++n) window[n] = hann<double>(n, shape.frame);
  return window;
}

// body(begin, end) over groups of frames; `passes` over a frame, of a vector operation per pole.
template <typename T, typename Body>
void for_groups(const PoleShape& shape, int64_t passes, const Body& body) {
  const int64_t groups = (shape.rows() + kLanes<T> - 1) / kLanes<T>;
  parallel(groups, passes * shape.frame * (shape.order + 4), body);
}

// Frames (B, T, L) into a signal, faded where there is a window.
template <typename T>
void add_frames(const T* frames, const PoleShape& shape, const double* window, T* signal) {
  const int64_t blocks = (shape.samples() + kGathered - 1) / kGathered;
  const int64_t cost = (shape.frame / shape.hop + 2) * kGathered / kLanes<double>;
  parallel(shape.batch * blocks, cost, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t item = i / blocks, sample = i % blocks * kGathered;
      const T* from = frames + item * shape.frames * shape.frame;
      const auto add = [&](int64_t t, int64_t tap, int64_t count, double* to) {
        const T* taps = from + t * shape.frame + tap;
        const int64_t plain = t == 0 || !window ? shape.frame / (window ? 2 : 1) - tap : 0;
        const int64_t whole = std::clamp<int64_t>(plain, 0, count);
        add_segment(taps, whole, to);
        if (whole < count)
          add_weighted(taps + whole, window + tap + whole, count - whole, to + whole);
      };
      gather_block(shape.frames, shape.frame, shape.hop, sample,
                   std::min(sample + kGathered, shape.samples()), add,
                   signal + item * shape.samples() + sample);
    }
  });
}

// Also returns y, shape (B, T, L).
std::tuple<Tensor, Tensor> all_pole_forward(const Tensor& signal, const Tensor& coefficients,
                                            int64_t frame, int64_t hop) {
  const PoleShape shape = check_all_pole(signal, coefficients, frame, hop);
  Tensor filtered = torch::stable::new_empty(signal, {shape.batch, shape.frames, frame});
  Tensor result = torch::stable::new_empty(signal, {shape.batch, shape.samples()});
  if (result.numel() == 0) return {result, filtered};
  dispatch_floating(signal, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *in = read<T>(signal), *filters = read<T>(coefficients);
    T* frames = write<T>(filtered);
    for_groups<T>(shape, 1, [&](int64_t begin, int64_t end) {
      Memory<T> memory(shape, 1);
      for (int64_t i = begin; i < end; ++i)
        filter_group(Group<T>(shape, i, filters), in, memory.stream(0, shape), frames);
    });
    add_frames<T>(frames, shape, make_window(shape, frame).data(), write<T>(result));
  });
  return {result, filtered};
}

std::tuple<Tensor, Tensor> all_pole_backward(const Tensor& grad, const Tensor& coefficients,
                                             const Tensor& filtered, int64_t hop) {
  const PoleShape shape = check_all_pole_backward(grad, coefficients, filtered, hop);
  Tensor flow = torch::stable::new_empty(grad, {shape.batch, shape.frames, shape.frame});
  Tensor grad_signal = torch::stable::new_empty(grad, {shape.batch, shape.samples()});
  Tensor grad_coefficients =
      torch::stable::new_empty(grad, {shape.batch, shape.frames, shape.order});
  if (grad.numel() == 0) return {grad_signal, grad_coefficients};
  dispatch_floating(grad, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *upstream = read<T>(grad), *filters = read<T>(coefficients), *kept = read<T>(filtered);
    T *frames = write<T>(flow), *result = write<T>(grad_coefficients);
    const std::vector<double> window = make_window(shape, Memory<T>::padded(shape));
    for_groups<T>(shape, 2, [&](int64_t begin, int64_t end) {
      Memory<T> memory(shape, 2);
      for (int64_t i = begin; i < end; ++i)
        filter_group_back(Group<T>(shape, i, filters), upstream, kept, window.data(),
                          memory.stream(0, shape), memory.stream(1, shape), frames, result);
    });
    add_frames<T>(frames, shape, nullptr, write<T>(grad_signal));
  });
  return {grad_signal, grad_coefficients};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_all_pole_forward", all_pole_forward);
  RLSV_IMPL(m, "_all_pole_backward", all_pole_backward);
}
#endif
