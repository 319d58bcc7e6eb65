// Slabs of a representation: kLanes channels of one item with a vector for each frame, so that
// pairs of frames meet lane by lane. A (C, T) becomes slabs normalised, and gradients come back.
#if defined(RLSV_FRAME_DISTANCE_SLABS_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_FRAME_DISTANCE_SLABS_H)
#undef RLSV_FRAME_DISTANCE_SLABS_H
#else
#define RLSV_FRAME_DISTANCE_SLABS_H
#endif

#include "simd.h"
#include "transpose.h"

namespace rlsv_fast::RLSV_PASS {

RLSV_INLINE int64_t padded_to(int64_t count, int64_t step) {
  return (count + step - 1) / step * step;
}

// Zeros, handed out in up to kSlices slices that begin at whole cache lines.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) {
    const size_t bytes = size_t(padded_to(count, kLine) + kSlices * kLine) * sizeof(T);
    next_ = start_ = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (!start_) throw std::bad_alloc();
    std::memset(start_, 0, bytes);
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() { std::free(start_); }

  T* take(int64_t count) {
    T* slice = next_;
    next_ += padded_to(count, kLine);
    return slice;
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(T), kSlices = 4;
  T *start_, *next_;
};

// One item A (C, T) and its slabs.
template <typename T>
struct Frames {
  const T* source;
  int64_t channels, frames, normalize;

  int64_t slabs() const { return (channels + kLanes<T> - 1) / kLanes<T>; }
  // Channels of a slab; the lanes that are left hold zeros.
  int64_t width(int64_t slab) const { return std::min(kLanes<T>, channels - slab * kLanes<T>); }
  const T* rows(int64_t slab) const { return source + slab * kLanes<T> * frames; }
  // Where a vector of frames begins that would begin at t, but must end with the last frame.
  int64_t within(int64_t t) const { return std::max<int64_t>(std::min(t, frames - kLanes<T>), 0); }
};

// inverse[t] = 1 / sum_c (A[c, t] + 1/C) for t in [first, last).
template <typename T>
RLSV_INLINE void invert_frames(const Frames<T>& item, int64_t first, int64_t last, double* total,
                               T* inverse) {
  for (int64_t t = first; t < last; ++t) total[t] = 1;  // sum_c 1/C
  int64_t c = 0;
  for (; c + 4 <= item.channels; c += 4) {
    const T *a = item.source + c * item.frames, *b = a + item.frames;
    const T *d = b + item.frames, *e = d + item.frames;
    for (int64_t t = first; t < last; ++t)
      total[t] = (((total[t] + double(a[t])) + double(b[t])) + double(d[t])) + double(e[t]);
  }
  for (; c < item.channels; ++c)
    for (int64_t t = first; t < last; ++t) total[t] += double(item.source[c * item.frames + t]);
  for (int64_t t = first; t < last; ++t) inverse[t] = T(1 / total[t]);
}

// 1 / sum_t (A[c, t] + 1/C) of a slab's channels, 0 in the lanes that are left.
template <typename T>
RLSV_INLINE void invert_channels(const Frames<T>& item, int64_t slab, Vec<T>& inverse) {
  T lanes[kLanes<T>] = {};
  for (int64_t i = 0; i < item.width(slab); ++i) {
    Vec<double> total = {}, part;
    for (int64_t t = 0; t < item.frames; t += kLanes<double>) {
      widen_part(item.rows(slab) + i * item.frames + t, item.frames - t, part);
      total += part;
    }
    lanes[i] = T(1 / (sum<double>(total) + double(item.frames) / double(item.channels)));
  }
  load(lanes, inverse);
}

// Where a vector lies: kBeside frames of a slab, then those of the next slab.
constexpr int64_t kBeside = 4;

template <typename T>
RLSV_INLINE int64_t place(int64_t frame, int64_t slab, int64_t slabs) {
  return ((frame / kBeside * slabs + slab) * kBeside + frame % kBeside) * kLanes<T>;
}

// A slab normalised, to where it lies as the slab `to_slab` of `slabs`. `inverse` is of the frames,
// `channel` of the slab's channels; only what `normalize` needs is read.
template <typename T>
RLSV_INLINE void normalise_slab(const Frames<T>& item, int64_t slab, const T* inverse,
                                const Vec<T>& channel, T* to, int64_t to_slab, int64_t slabs) {
  const T* rows = item.rows(slab);
  const int64_t width = item.width(slab);
  const T floor = T(1.0 / double(item.channels));
  Mask<T> present;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) present[lane] = lane < width ? -1 : 0;
  for (int64_t next = 0; next < item.frames; next += kLanes<T>) {
    const int64_t t = item.within(next);
    Vec<T> block[kLanes<T>] = {};
    for (int64_t i = 0; i < width; ++i)
      load_part(rows + i * item.frames + t, item.frames - t, block[i]);
    transpose<T>(block);
    for (int64_t i = 0; i < std::min(kLanes<T>, item.frames); ++i) {
      if (item.normalize == kFeatures) block[i] *= inverse[t + i];
      if (item.normalize == kTime) block[i] = (block[i] + floor) * channel;
      const Vec<T> positive = block[i] + T(0);  // sign() wants no -0
      store<T>(present ? positive : Vec<T>{}, to + place<T>(t + i, to_slab, slabs));
    }
  }
}

// kTime: from da to dA in place, given a and the inverses of the channels.
template <typename T>
RLSV_INLINE void denormalise_channels(const T* values, const Vec<T>& channel, int64_t frames,
                                      T* gradient) {
  constexpr int64_t kHalves = kLanes<T> / kLanes<double>;
  Vec<double> total[kHalves] = {};
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t half = 0; half < kHalves; ++half) {
      const int64_t at = t * kLanes<T> + half * kLanes<double>;
      Vec<double> slope, value;
      widen(gradient + at, slope);
      widen(values + at, value);
      total[half] += slope * value;
    }
  T lanes[kLanes<T>];
  Vec<T> inner, slope;
  for (int64_t half = 0; half < kHalves; ++half) narrow(total[half], lanes + half * kLanes<double>);
  load(lanes, inner);
  for (int64_t t = 0; t < frames; ++t) {
    load(gradient + t * kLanes<T>, slope);
    store<T>((slope - inner) * channel, gradient + t * kLanes<T>);
  }
}

// A slab of gradients to the rows of its channels. For kFeatures they are still da, and products[t]
// becomes sum_c da[c, t] A[c, t] over these channels.
template <typename T>
RLSV_INLINE void store_slab(const Frames<T>& item, int64_t slab, const T* gradient, T* result,
                            T* products) {
  const T* rows = item.rows(slab);
  T* to = result + slab * kLanes<T> * item.frames;
  const int64_t width = item.width(slab);
  for (int64_t next = 0; next < item.frames; next += kLanes<T>) {
    const int64_t t = item.within(next), count = item.frames - t;
    Vec<T> block[kLanes<T>], total = {};
    for (int64_t i = 0; i < kLanes<T>; ++i) load(gradient + (t + i) * kLanes<T>, block[i]);
    transpose<T>(block);
    for (int64_t i = 0; i < width; ++i) {
      store_part(block[i], count, to + i * item.frames + t);
      if (item.normalize != kFeatures) continue;
      Vec<T> value;
      load_part(rows + i * item.frames + t, count, value);
      total += block[i] * value;
    }
    if (item.normalize == kFeatures) store(total, products + t);
  }
}

// kFeatures: inner[t] = sum_c da[c, t] a[c, t] from every slab's products.
template <typename T>
RLSV_INLINE void add_products(const Frames<T>& item, const T* products, int64_t padded,
                              const T* inverse, T* inner) {
  for (int64_t t = 0; t < item.frames; ++t) {
    double total = 0;
    for (int64_t slab = 0; slab < item.slabs(); ++slab)
      total += double(products[slab * padded + t]);
    inner[t] = T(total * double(inverse[t]));
  }
}

// kFeatures: from da to dA in place, channels [first, last).
template <typename T>
RLSV_INLINE void denormalise_frames(const Frames<T>& item, const T* __restrict__ inner,
                                    const T* __restrict__ inverse, int64_t first, int64_t last,
                                    T* __restrict__ result) {
  for (int64_t c = first; c < last; ++c)
    for (int64_t t = 0; t < item.frames; ++t)
      result[c * item.frames + t] = (result[c * item.frames + t] - inner[t]) * inverse[t];
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
