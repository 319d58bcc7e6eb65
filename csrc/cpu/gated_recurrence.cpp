// The recurrent part of a gated layer (Cho et al. 2014, in the form of cuDNN and torch.nn.GRU), for
// items b, frames t and units i < H, of projected inputs x (B, T, 3H), weights W (3H, H), biases
// v (3H) and the state h of the frame before, at first 0:
//   r = s(x_i + W_i h + v_i)      z = s(x_(H+i) + W_(H+i) h + v_(H+i))     s(a) = 1 / (1 + e^-a)
//   c = W_(2H+i) h + v_(2H+i)     n = tanh(x_(2H+i) + r c)                 h'_i = n + z (h_i - n)
// and, with G the gradient of a state, upstream and from the frame after,
//   dn = G (1 - z) (1 - n^2)      dz = G (h - n) z (1 - z)                 dr = dn c r (1 - r)
//   dx = (dr, dz, dn)             dc = dn r
//   dh_k = G_k z_k + sum_i  dr_i W_ik + dz_i W_(H+i)k + dc_i W_(2H+i)k
//
// Every frame reads all weights, and there is little else to do: they are laid out once in the
// order in which they are read, and read once for a tile of items, forwards and backwards in turn,
// so that what does not fit into a core's second-level cache is no more than has to be.
#include <algorithm>
#include <vector>

#include "exponential.h"
#include "operands.h"

#define RLSV_KERNEL_FILE "cpu/gated_recurrence.cpp"
#include "each_simd.h"
#include "exponential_vectors.h"
#include "simd.h"

namespace rlsv_fast::RLSV_PASS {
namespace {

constexpr const char* kOp = "gated_recurrence";
constexpr int64_t kItems = 4;  // of a tile
// Vectors of units whose three gates, or of columns whose sums, a tile keeps in registers.
constexpr int64_t kUnits = RLSV_VECTOR_BYTES == 64 ? 2 : 1;
constexpr int64_t kColumns = 2 * kUnits;

template <typename T>
struct Layer {
  int64_t items, frames, size;
  const T *gates, *candidates, *parts, *states;  // (B, T, 2H) and (B, T, H)

  int64_t row(int64_t item, int64_t frame) const { return item * frames + frame; }
  int64_t tiles() const { return (items + kItems - 1) / kItems; }
};

// Matrices (terms, count), `groups` of them beside each other, as they are read: panel p holds of
// each term in turn its columns from p width on, of one matrix after the other, and zeros beyond
// the last. Element (k, i) of matrix g is from[k term + (g count + i) column].
template <typename T>
Tensor panels_of(const Tensor& like, const T* from, int64_t groups, int64_t terms, int64_t count,
                 int64_t width, int64_t term, int64_t column) {
  const int64_t panels = (count + width - 1) / width, panel_size = terms * groups * width;
  Tensor packed = torch::stable::new_empty(like, {panels * panel_size});
  T* out = write<T>(packed);
  parallel(panels, panel_size, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t first = panel * width, there = std::min(width, count - first);
      T* to = out + panel * panel_size;
      for (int64_t k = 0; k < terms; ++k)
        for (int64_t group = 0; group < groups; ++group, to += width) {
          for (int64_t i = 0; i < there; ++i)
            to[i] = from[k * term + (group * count + first + i) * column];
          std::fill(to + there, to + width, T(0));
        }
    }
  });
  return packed;
}

// sums[i] += panel^T numbers[i]
template <typename T, int64_t vectors, int64_t items>
RLSV_INLINE void multiply(const T* panel, int64_t terms, const T* const (&numbers)[items],
                          Vec<T> (&sums)[items][vectors]) {
  for (int64_t k = 0; k < terms; ++k, panel += vectors * kLanes<T>) {
    Vec<T> weights[vectors];
#pragma GCC unroll 8
    for (int64_t v = 0; v < vectors; ++v) load(panel + v * kLanes<T>, weights[v]);
#pragma GCC unroll 4
    for (int64_t i = 0; i < items; ++i) {
      const T number = numbers[i][k];
#pragma GCC unroll 8
      for (int64_t v = 0; v < vectors; ++v) sums[i][v] += weights[v] * number;
    }
  }
}

// The logarithm of e to base 2: a number, what it lacks of the true one, and how far its powers go.
template <typename T>
struct Natural;
template <>
struct Natural<float> {
  static constexpr float kHigh = 1.44269502f, kLow = 1.92596299e-8f, kMost = 87.0f;
};
template <>
struct Natural<double> {
  static constexpr double kHigh = 1.4426950408889634, kLow = 2.0355273740931033e-17, kMost = 708.0;
};

// e^x as scale (1 + growth), for |x| <= kMost.
template <typename T>
RLSV_INLINE void power_of_e(const Vec<T>& x, Vec<T>& scale, Vec<T>& growth) {
  const Vec<T> whole = (x * Natural<T>::kHigh + Rounding<T>::kMagic) - Rounding<T>::kMagic;
  const Vec<T> r = (x * Natural<T>::kHigh - whole) + x * Natural<T>::kLow;
  octave_growth(r, growth, T(0));
  growth *= r;
  exp2_uncapped<T>(whole, std::numeric_limits<T>::min_exponent - 1, scale);
}

template <typename T>
RLSV_INLINE void limit(const Vec<T>& x, T most, Vec<T>& limited) {
  limited = x < most ? x : Vec<T>{} + most;
  limited = limited > -most ? limited : Vec<T>{} - most;
}

// A NaN stays one in both.
template <typename T>
RLSV_INLINE void sigmoid(const Vec<T>& x, Vec<T>& result) {
  Vec<T> limited, scale, growth;
  limit<T>(-x, Natural<T>::kMost, limited);
  power_of_e<T>(limited, scale, growth);
  result = x == x ? 1 / (1 + (scale + scale * growth)) : x;
}

// By e^(-2|x|) - 1, whose digits are kept near 0.
template <typename T>
RLSV_INLINE void tanh(const Vec<T>& x, Vec<T>& result) {
  Vec<T> size, limited, scale, growth;
  absolute<T>(x, size);
  limit<T>(size * -2, Natural<T>::kMost, limited);
  power_of_e<T>(limited, scale, growth);
  const Vec<T> less_one = scale * growth + (scale - 1);
  const Vec<T> positive = -less_one / (2 + less_one);
  result = x > 0 ? positive : x == x ? -positive : x;
}

// The states of `items` items and a panel's units in one frame, from those of the frame before.
template <typename T, int64_t items>
RLSV_INLINE void advance(const Layer<T>& layer, int64_t item, int64_t frame, int64_t panel,
                         const T* weights, const T* biases, const T* projected, T* gates,
                         T* candidates, T* parts, T* states) {
  const int64_t size = layer.size, width = kUnits * kLanes<T>;
  Vec<T> sums[items][3 * kUnits];
  for (int64_t i = 0; i < items; ++i)
    for (int64_t v = 0; v < 3 * kUnits; ++v)
      load(biases + panel * 3 * width + v * kLanes<T>, sums[i][v]);
  if (frame > 0) {
    const T* before[items];
    for (int64_t i = 0; i < items; ++i) before[i] = states + layer.row(item + i, frame - 1) * size;
    multiply<T, 3 * kUnits, items>(weights + panel * size * 3 * width, size, before, sums);
  }
  for (int64_t i = 0; i < items; ++i) {
    const int64_t row = layer.row(item + i, frame);
    for (int64_t v = 0; v < kUnits; ++v) {
      const int64_t unit = panel * width + v * kLanes<T>, count = size - unit;
      if (count <= 0) break;
      const T* inputs = projected + row * 3 * size + unit;
      Vec<T> reset, update, candidate, input, state = {};
      load_part(inputs, count, input);
      sigmoid<T>(sums[i][v] + input, reset);
      load_part(inputs + size, count, input);
      sigmoid<T>(sums[i][kUnits + v] + input, update);
      load_part(inputs + 2 * size, count, input);
      tanh<T>(input + reset * sums[i][2 * kUnits + v], candidate);
      if (frame > 0) load_part(states + (row - 1) * size + unit, count, state);
      store_part<T>(candidate + update * (state - candidate), count, states + row * size + unit);
      if (!gates) continue;
      store_part<T>(reset, count, gates + row * 2 * size + unit);
      store_part<T>(update, count, gates + row * 2 * size + size + unit);
      store_part<T>(candidate, count, candidates + row * size + unit);
      store_part<T>(sums[i][2 * kUnits + v], count, parts + row * size + unit);
    }
  }
}

// Calls body.template operator()<n>(item) for the n items of a tile.
template <typename Body>
RLSV_INLINE void on_tile(int64_t item, int64_t items, const Body& body) {
  switch (std::min(kItems, items - item)) {
    case 4:
      return body(item, std::integral_constant<int64_t, 4>{});
    case 3:
      return body(item, std::integral_constant<int64_t, 3>{});
    case 2:
      return body(item, std::integral_constant<int64_t, 2>{});
    default:
      return body(item, std::integral_constant<int64_t, 1>{});
  }
}

// body(panel, first item) for all pairs, on several threads. Each thread goes the other way in
// every other frame: it begins with the weights that it has just read.
template <typename Body>
RLSV_INLINE void sweep(int64_t panels, int64_t tiles, int64_t cost, bool turned, const Body& body) {
  parallel(panels * tiles, cost, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t place = turned ? begin + end - 1 - i : i;
      body(place / tiles, place % tiles * kItems);
    }
  });
}

// Also returns what the gradient is made of: r and z beside each other, n and c, shapes (B, T, 2H)
// and (B, T, H); empty unless `keep`.
std::tuple<Tensor, Tensor, Tensor, Tensor> gated_recurrence_forward(const Tensor& projected,
                                                                    const Tensor& weight,
                                                                    const Tensor& bias, bool keep) {
  check_gated_recurrence(projected, weight, bias);
  const int64_t items = projected.size(0), frames = projected.size(1), size = weight.size(1),
                kept = keep ? size : 0;
  Tensor states = torch::stable::new_empty(projected, {items, frames, size});
  Tensor gates = torch::stable::new_empty(projected, {items, frames, 2 * kept});
  Tensor candidates = torch::stable::new_empty(projected, {items, frames, kept});
  Tensor parts = torch::stable::new_empty(projected, {items, frames, kept});
  dispatch_floating(projected, kOp, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = kUnits * kLanes<T>, panels = (size + width - 1) / width;
    const Layer<T> layer{items, frames, size, nullptr, nullptr, nullptr, nullptr};
    const Tensor weights = panels_of(weight, read<T>(weight), 3, size, size, width, 1, size);
    const Tensor biases = panels_of(bias, read<T>(bias), 3, 1, size, width, 0, 1);
    const T* inputs = read<T>(projected);
    T *state = write<T>(states), *gate = keep ? write<T>(gates) : nullptr,
      *candidate = keep ? write<T>(candidates) : nullptr, *part = keep ? write<T>(parts) : nullptr;
    const int64_t cost = 3 * kUnits * size * std::min(kItems, items);
    for (int64_t frame = 0; frame < frames; ++frame)
      sweep(panels, layer.tiles(), cost, frame % 2, [&](int64_t panel, int64_t first) {
        on_tile(first, items, [&](int64_t item, auto count) {
          advance<T, count.value>(layer, item, frame, panel, read<T>(weights), read<T>(biases),
                                  inputs, gate, candidate, part, state);
        });
      });
  });
  return {states, gates, candidates, parts};
}

// From the gradient of the states of a frame, for a vector of units, to that of the sums before its
// gates; `flow` has what comes from the frame after, and what goes past the gates afterwards.
template <typename T>
RLSV_INLINE void leave_gates(const Layer<T>& layer, int64_t item, int64_t frame, int64_t unit,
                             int64_t count, const T* grad, T* flow, T* of_projected, T* of_parts) {
  const int64_t size = layer.size, row = layer.row(item, frame), at = row * size + unit;
  T *later = flow + item * size + unit, *sums = of_projected + row * 3 * size + unit;
  Vec<T> of_state, past, reset, update, candidate, part, before = {};
  load_part(grad + at, count, of_state);
  load_part(later, count, past);
  load_part(layer.gates + row * 2 * size + unit, count, reset);
  load_part(layer.gates + row * 2 * size + size + unit, count, update);
  load_part(layer.candidates + at, count, candidate);
  load_part(layer.parts + at, count, part);
  if (frame > 0) load_part(layer.states + at - size, count, before);
  GateGradients<Vec<T>> to;
  through_gates<Vec<T>>(of_state + past, before, reset, update, candidate, part, to);
  store_part<T>(to.reset, count, sums);
  store_part<T>(to.update, count, sums + size);
  store_part<T>(to.candidate, count, sums + 2 * size);
  store_part<T>(to.part, count, of_parts + at);
  store_part<T>(to.past, count, later);
}

// A panel's columns of the gradient of the states before `frame`, and what follows from it there.
template <typename T, int64_t items>
RLSV_INLINE void retreat(const Layer<T>& layer, int64_t item, int64_t frame, int64_t panel,
                         const T* weights, const T* grad, T* flow, T* of_projected, T* of_parts) {
  const int64_t size = layer.size, width = kColumns * kLanes<T>;
  if (frame < layer.frames) {
    const T *gates[items], *parts[items];
    Vec<T> sums[items][kColumns] = {};
    for (int64_t i = 0; i < items; ++i) {
      const int64_t row = layer.row(item + i, frame);
      gates[i] = of_projected + row * 3 * size;
      parts[i] = of_parts + row * size;
    }
    const T* weight = weights + panel * 3 * size * width;
    multiply<T, kColumns, items>(weight, 2 * size, gates, sums);
    multiply<T, kColumns, items>(weight + 2 * size * width, size, parts, sums);
    for (int64_t i = 0; i < items; ++i)
      for (int64_t v = 0; v < kColumns; ++v) {
        const int64_t unit = panel * width + v * kLanes<T>, count = size - unit;
        if (count <= 0) break;
        Vec<T> past;
        T* to = flow + (item + i) * size + unit;
        load_part(to, count, past);
        store_part<T>(past + sums[i][v], count, to);
      }
  }
  for (int64_t i = 0; i < items; ++i)
    for (int64_t v = 0; v < kColumns; ++v) {
      const int64_t unit = panel * width + v * kLanes<T>, count = size - unit;
      if (count <= 0) break;
      leave_gates(layer, item + i, frame - 1, unit, count, grad, flow, of_projected, of_parts);
    }
}

// dx, (B, T, 3H), and dc, (B, T, H).
std::tuple<Tensor, Tensor> gated_recurrence_backward(const Tensor& grad, const Tensor& weight,
                                                     const Tensor& states, const Tensor& gates,
                                                     const Tensor& candidates,
                                                     const Tensor& parts) {
  check_gated_recurrence_backward(grad, weight, states, gates, candidates, parts);
  const int64_t items = states.size(0), frames = states.size(1), size = states.size(2);
  Tensor of_projected = torch::stable::new_empty(states, {items, frames, 3 * size});
  Tensor of_parts = torch::stable::new_empty(states, {items, frames, size});
  dispatch_floating(grad, kOp, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = kColumns * kLanes<T>, panels = (size + width - 1) / width;
    const Layer<T> layer{items,          frames,         size, read<T>(gates), read<T>(candidates),
                         read<T>(parts), read<T>(states)};
    const Tensor weights = panels_of(weight, read<T>(weight), 1, 3 * size, size, width, size, 1);
    std::vector<T> flow(items * size);
    const T* upstream = read<T>(grad);
    T *of_sums = write<T>(of_projected), *of_part = write<T>(of_parts);
    const int64_t cost = 3 * kColumns * size * std::min(kItems, items);
    for (int64_t frame = frames; frame > 0; --frame)
      sweep(panels, layer.tiles(), cost, frame % 2, [&](int64_t panel, int64_t first) {
        on_tile(first, items, [&](int64_t item, auto count) {
          retreat<T, count.value>(layer, item, frame, panel, read<T>(weights), upstream,
                                  flow.data(), of_sums, of_part);
        });
      });
  });
  return {of_projected, of_parts};
}

}  // namespace
}  // namespace rlsv_fast::RLSV_PASS

#if defined(RLSV_LAST_PASS)
STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) {
  using namespace rlsv_fast;
  RLSV_IMPL(m, "_gated_recurrence_forward", gated_recurrence_forward);
  RLSV_IMPL(m, "_gated_recurrence_backward", gated_recurrence_backward);
}
#endif
