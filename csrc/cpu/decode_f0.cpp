// One f0 for each voice and frame of saliences A (B, V, F, T), bins F_k = l 2^(k/o). With k* the
// first largest bin of a frame and h its voice's threshold, f = F_k* where A_k* >= h and k* != 0,
// else 0, and, where f is not 0, n being a bin's distance from k*:
//                    value                                gradient dA_k, of the upstream G
//   reconstruction   f                                    G                              all k
//     as coded       sum of F_k with f's whole Hertz      G, where f is 0 too            all k
//   soft             F_(k* + m), m = sum n A / sum A      G f ln2 / (o sum A) (n - m)    |n| <= 4
//   ste              f where A_k* > h, else 0             G f, limited to +-1000         n = 0
//   sigmoid          s f, s = 1 / (1 + e^(1000 (h - A)))  1000 G s (1 - s) f             n = 0
//   threshold        A f                                  G f                            n = 0
//   amplitude        f                                    0
// A frame with a NaN is NaN, and its gradient is at a bin that is. Where sum A is not positive, 1
// takes its place, in both. The first two gradients are one number for all bins: Python says so
// with a view instead of writing them.
#include <algorithm>
#include <vector>

#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/decode_f0.cpp"
#include "each_simd.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "decode_f0";
constexpr int64_t kFrames = 512;  // of a tile: its largest bins stay in the first-level cache
constexpr int64_t kRows = 4;      // bins that are compared with them at once

template <typename T>
using Place = std::make_signed_t<Bits<T>>;  // a bin, as wide as a number

// `count` bins of a vector of frames, from `bin` on; NaN is larger than anything.
template <typename T, int64_t count>
RLSV_INLINE void compare(const T* row, int64_t stride, int64_t bin, Vec<T>& peak, Mask<T>& place) {
#pragma GCC unroll 4
  for (int64_t k = 0; k < count; ++k) {
    Vec<T> here;
    load(row + k * stride, here);
    const Mask<T> number = Mask<T>{} + Place<T>(bin + k);
    place = here > peak ? number : here != here ? number : place;
    peak = here > peak ? here : here != here ? here : peak;
  }
}

template <typename T, int64_t count>
RLSV_INLINE void compare_rows(const T* row, int64_t stride, int64_t bin, int64_t frames, T* peaks,
                              Place<T>* places) {
  for (int64_t t = 0; t < frames; t += kLanes<T>) {
    // The last vector overlaps the one before it: what has been compared may be so again.
    const int64_t at = std::min(t, frames - kLanes<T>);
    Vec<T> peak;
    Mask<T> place;
    load(peaks + at, peak);
    std::memcpy(&place, places + at, sizeof(place));
    compare<T, count>(row + at, stride, bin, peak, place);
    store<T>(peak, peaks + at);
    std::memcpy(places + at, &place, sizeof(place));
  }
}

// The largest bins of `frames` frames, at most kFrames.
template <typename T>
RLSV_INLINE void find_peaks(const T* first, int64_t stride, int64_t bins, int64_t frames, T* peaks,
                            Place<T>* places) {
  for (int64_t t = 0; t < frames; ++t) {
    peaks[t] = first[t];
    places[t] = 0;
  }
  int64_t bin = 1;
  if (frames >= kLanes<T>) {
    for (; bin + kRows <= bins; bin += kRows)
      compare_rows<T, kRows>(first + bin * stride, stride, bin, frames, peaks, places);
    for (; bin < bins; ++bin)
      compare_rows<T, 1>(first + bin * stride, stride, bin, frames, peaks, places);
  }
  for (; bin < bins; ++bin)
    for (int64_t t = 0; t < frames; ++t) {
      const T here = first[bin * stride + t];
      if (!(here > peaks[t]) && here == here) continue;
      peaks[t] = here;
      places[t] = Place<T>(bin);
    }
}

// Also returns what the gradient is made of: the bin (int32, -1 for none), the slope and, for
// "soft", the average place; see DecodedF0.
std::tuple<Tensor, Tensor, Tensor, Tensor> decode_f0_forward(const Tensor& salience,
                                                             std::vector<double> thresholds,
                                                             int64_t method, double lowest,
                                                             int64_t bins_per_octave) {
  check_decode_f0(salience, thresholds, method, bins_per_octave);
  const int64_t batch = salience.size(0), voices = salience.size(1), bins = salience.size(2),
                frames = salience.size(3), tiles = (frames + kFrames - 1) / kFrames;
  Tensor f0 = torch::stable::new_empty(salience, {batch, voices, frames});
  Tensor bin = torch::stable::new_empty(salience, {batch, voices, frames}, ScalarType::Int);
  Tensor slope = torch::stable::new_empty(salience, {batch, voices, frames});
  Tensor moved = torch::stable::new_empty(salience, {batch, voices, method == kSoft ? frames : 0});
  const F0Grid grid{lowest, double(bins_per_octave)};
  std::vector<double> frequencies(bins);
  for (int64_t k = 0; k < bins; ++k) frequencies[k] = grid[double(k)];
  const double* table = frequencies.data();
  dispatch_floating(salience, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T* in = read<T>(salience);
    T *value = write<T>(f0), *factor = write<T>(slope), *average = write<T>(moved);
    int32_t* largest = write<int32_t>(bin);
    const int64_t cost = bins * std::min(frames, kFrames) / kLanes<T>;
    parallel(batch * voices * tiles, cost, [&](int64_t begin, int64_t end) {
      T peaks[kFrames];
      Place<T> places[kFrames];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t plane = i / tiles, start = i % tiles * kFrames,
                      count = std::min(kFrames, frames - start), out = plane * frames + start;
        const T* first = in + plane * bins * frames + start;
        find_peaks(first, frames, bins, count, peaks, places);
        for (int64_t t = 0; t < count; ++t) {
          const DecodedF0<T> decoded =
              decode_frame<T>(F0Method(method), first + t, frames, bins, peaks[t], places[t],
                              thresholds[plane % voices], grid, table);
          value[out + t] = decoded.f0;
          largest[out + t] = decoded.bin;
          factor[out + t] = decoded.slope;
          if (method == kSoft) average[out + t] = decoded.moved;
        }
      }
    });
  });
  return {f0, bin, slope, moved};
}

// A vector of bins of frames, as wide as numbers.
RLSV_INLINE void load_places(const int32_t* from, Mask<float>& to) {
  std::memcpy(&to, from, sizeof(to));
}
RLSV_INLINE void load_places(const int32_t* from, Mask<double>& to) {
  typedef int32_t Half __attribute__((vector_size(RLSV_VECTOR_BYTES / 2)));
  Half half;
  std::memcpy(&half, from, sizeof(half));
  to = __builtin_convertvector(half, Mask<double>);
}

// One bin of all frames of a voice; kThreshold stands for all whose gradient is one bin's.
template <F0Method method, typename T>
void gradient_of_row(const T* upstream, const int32_t* largest, const T* factor, const T* average,
                     int64_t frames, int64_t bin, T* result) {
  constexpr Place<T> kReach = method == kSoft ? kSoftReach : 0;
  const auto one = [&](int64_t t) {
    const int64_t away = bin - largest[t];
    if (largest[t] < 0 || away < -kReach || away > kReach) return T(0);
    const T flow = upstream[t] * factor[t];
    if (method == kSoft) return flow * (T(away) - average[t]);
    return method == kSte ? std::min(std::max(flow, T(-kSteMost)), T(kSteMost)) : flow;
  };
  if (frames < kLanes<T>) {
    for (int64_t t = 0; t < frames; ++t) result[t] = one(t);
    return;
  }
  for (int64_t t = 0; t < frames; t += kLanes<T>) {
    const int64_t at = std::min(t, frames - kLanes<T>);  // the last vector overlaps
    Vec<T> flow, slope;
    Mask<T> place;
    load(upstream + at, flow);
    load(factor + at, slope);
    load_places(largest + at, place);
    flow *= slope;
    const Mask<T> away = Place<T>(bin) - place;
    if (method == kSoft) {
      Vec<T> mean;
      load(average + at, mean);
      flow *= __builtin_convertvector(away, Vec<T>) - mean;
      Mask<T> outside = place < 0;
      outside |= away < -kReach;
      outside |= away > kReach;
      store<T>(outside ? Vec<T>{} : flow, result + at);
    } else {
      if (method == kSte) {
        flow = flow > T(kSteMost) ? Vec<T>{} + T(kSteMost) : flow;
        flow = flow < T(-kSteMost) ? Vec<T>{} - T(kSteMost) : flow;
      }
      store<T>(away == 0 ? flow : Vec<T>{}, result + at);
    }
  }
}

template <typename T>
void gradient_of_row(int64_t method, const T* upstream, const int32_t* largest, const T* factor,
                     const T* average, int64_t frames, int64_t bin, T* result) {
  if (method == kSoft)
    return gradient_of_row<kSoft>(upstream, largest, factor, average, frames, bin, result);
  if (method == kSte)
    return gradient_of_row<kSte>(upstream, largest, factor, average, frames, bin, result);
  gradient_of_row<kThreshold>(upstream, largest, factor, average, frames, bin, result);
}

Tensor decode_f0_backward(const Tensor& grad, const Tensor& bin, const Tensor& slope,
                          const Tensor& moved, int64_t bins, int64_t method) {
  check_decode_f0_backward(grad, bin, slope, moved, bins, method);
  const int64_t batch = grad.size(0), voices = grad.size(1), frames = grad.size(2);
  Tensor result = torch::stable::new_empty(grad, {batch, voices, bins, frames});
  dispatch_floating(grad, kOp, [&](auto zero) {
    using T = decltype(zero);
    const T *upstream = read<T>(grad), *factor = read<T>(slope), *average = read<T>(moved);
    const int32_t* largest = read<int32_t>(bin);
    T* out = write<T>(result);
    parallel(batch * voices * bins, frames / kLanes<T> + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i / bins * frames;
        gradient_of_row(method, upstream + at, largest + at, factor + at,
                        method == kSoft ? average + at : nullptr, frames, i % bins,
                        out + i * frames);
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
  RLSV_IMPL(m, "_decode_f0_forward", decode_f0_forward);
  RLSV_IMPL(m, "_decode_f0_backward", decode_f0_backward);
}
#endif
