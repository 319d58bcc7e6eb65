// What the Sinkhorn kernels share: padded storage, and the passes over a kernel matrix K (rows,
// width).
//
// Rows come in groups and columns in whole vectors; the padding is zero, so that no pass has a
// remainder. Every sum has a fixed order and nothing is shared between problems: the bits of
// a result depend neither on the number of threads nor on the rest of the batch.
#if defined(RLSV_SINKHORN_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_H)
#undef RLSV_SINKHORN_H
#else
#define RLSV_SINKHORN_H
#endif

#include "exponential_vectors.h"
#include "simd.h"
#include "sinkhorn_rules.h"

namespace rlsv_fast::RLSV_PASS {

constexpr int64_t kGroup = RLSV_VECTOR_BYTES == 64 ? 8 : 4;  // as many as the registers take

// Sizes are rounded up to whole groups of rows and whole vectors, both powers of two.
template <typename T>
constexpr int64_t kPadding = std::max(kGroup, kLanes<T>);

inline int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// One zeroed, aligned block, handed out in slices that begin at whole vectors.
template <typename T>
class Arena {
 public:
  explicit Arena(int64_t count) {
    const size_t bytes = size_t(round_up(std::max<int64_t>(count, 1) * sizeof(T), 64));
    block_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!block_) throw std::bad_alloc();
    std::memset(block_.get(), 0, bytes);
    next_ = block_.get();
  }
  T* take(int64_t count) {
    T* slice = next_;
    next_ += round_up(count, kLanes<T>);
    return slice;
  }

 private:
  struct Free {
    void operator()(T* block) const { std::free(block); }
  };
  std::unique_ptr<T, Free> block_;
  T* next_ = nullptr;
};

// Whether a whole vector may be read, or written before the next row is, at the end of this row.
template <typename T>
RLSV_INLINE bool room_after(int64_t row, int64_t rows, int64_t columns) {
  return row + 1 < rows && columns >= kLanes<T>;
}

// Loads up to a vector; lanes past `count` read as `rest`.
template <typename T>
RLSV_INLINE void load_padded(const T* from, int64_t count, T rest, Vec<T>& to, bool room = false) {
  if (count >= kLanes<T>) return load(from, to);
  T lanes[kLanes<T>];
  if (room) {
    for (int64_t lane = 0; lane < kLanes<T>; ++lane) lanes[lane] = T(lane);
    Vec<T> index;
    load(lanes, index);
    load(from, to);
    to = index < T(count) ? to : Vec<T>{} + rest;
    return;
  }
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) lanes[lane] = lane < count ? from[lane] : rest;
  load(lanes, to);
}

template <typename T>
RLSV_INLINE void store_cut(const Vec<T>& from, int64_t count, T* to, bool room = false) {
  if (room || count >= kLanes<T>) return store(from, to);
  if (count <= 0) return;  // all of it is padding
  T lanes[kLanes<T>];
  store(from, lanes);
  // By powers of two: copies of a length that the compiler knows are single instructions.
  int64_t lane = 0;
#pragma GCC unroll 4
  for (int64_t part = kLanes<T> / 2; part > 0; part /= 2)
    if (count & part) {
      std::memcpy(to + lane, lanes + lane, part * sizeof(T));
      lane += part;
    }
}

template <typename T>
RLSV_INLINE T highest(const Vec<T>& vector) {
  T lanes[kLanes<T>];
  store(vector, lanes);
  for (int64_t lane = 1; lane < kLanes<T>; ++lane) lanes[0] = std::max(lanes[0], lanes[lane]);
  return lanes[0];
}

// result[k] = sum_j K[k, j] y[j] for the rows of a group, in a fixed order.
template <typename T>
RLSV_INLINE void dot_group(const T* rows, int64_t width, const T* y, T* result) {
  Vec<T> totals[kGroup] = {};
  for (int64_t j = 0; j < width; j += kLanes<T>) {
    Vec<T> weight;
    load(y + j, weight);
#pragma GCC unroll 8
    for (int64_t k = 0; k < kGroup; ++k) {
      Vec<T> entries;
      load(rows + k * width + j, entries);
      totals[k] += entries * weight;
    }
  }
  sum_each<T>(totals, result);
}

// columns[j] += sum_k weights[k] K[k, j] for the rows of a group.
template <typename T>
RLSV_INLINE void add_group(const T* rows, int64_t width, const T* weights, T* columns) {
  for (int64_t j = 0; j < width; j += kLanes<T>) {
    Vec<T> total;
    load(columns + j, total);
#pragma GCC unroll 8
    for (int64_t k = 0; k < kGroup; ++k) {
      Vec<T> entries;
      load(rows + k * width + j, entries);
      total += entries * weights[k];
    }
    store<T>(total, columns + j);
  }
}

// result = K y.
template <typename T>
RLSV_INLINE void multiply(const T* kernel, int64_t rows, int64_t width, const T* y, T* result) {
  for (int64_t i = 0; i < rows; i += kGroup) dot_group(kernel + i * width, width, y, result + i);
}

// sums = K' x with x made of K y, group by group: weigh(i, mass, x) makes the x of the rows from i
// on of their mass K y. One stream over K: a group is added while the next one is summed.
template <typename T, typename Weigh>
RLSV_INLINE void turn(const T* kernel, int64_t rows, int64_t width, const T* y, T* sums,
                      const Weigh& weigh) {
  T mass[kGroup], weights[kGroup];
  std::fill(sums, sums + width, T(0));
  dot_group(kernel, width, y, mass);
  for (int64_t i = 0; i < rows; i += kGroup) {
    const T *now = kernel + i * width, *next = now + kGroup * width;
    weigh(i, mass, weights);
    if (i + kGroup >= rows) return add_group(now, width, weights, sums);
    Vec<T> totals[kGroup] = {}, across[kGroup];
    for (int64_t k = 0; k < kGroup; ++k) across[k] = Vec<T>{} + weights[k];
    for (int64_t j = 0; j < width; j += kLanes<T>) {
      Vec<T> weight, total, entries;
      load(y + j, weight);
      load(sums + j, total);
#pragma GCC unroll 8
      for (int64_t k = 0; k < kGroup; ++k) {
        load(now + k * width + j, entries);
        total += entries * across[k];
        load(next + k * width + j, entries);
        totals[k] += entries * weight;
      }
      store<T>(total, sums + j);
    }
    sum_each<T>(totals, mass);
  }
}

// The inner product of two padded vectors.
template <typename T>
RLSV_INLINE T inner(const T* first, const T* second, int64_t width) {
  Vec<T> total = {};
  for (int64_t j = 0; j < width; j += kLanes<T>) {
    Vec<T> left, right;
    load(first + j, left);
    load(second + j, right);
    total += left * right;
  }
  return sum<T>(total);
}

// The largest magnitude among `count` numbers.
template <typename T>
RLSV_INLINE T largest(const T* values, int64_t count) {
  T most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(values[i]));
  return most;
}

template <typename T>
struct Problem {
  const T *cost, *row, *column, *initial;  // (N, M), (N), (M), and f to start from or null
  int64_t rows, columns;
  T epsilon;
};

// P = diag(x) K diag(y) and <P, M>; plan may be null.
template <typename T>
RLSV_INLINE void write_plan(const Problem<T>& problem, const T* kernel, int64_t width, const T* x,
                            const T* y, T* plan, T* distance) {
  double total = 0;
  for (int64_t i = 0; i < problem.rows; ++i) {
    const bool room = room_after<T>(i, problem.rows, problem.columns);
    Vec<T> row = {};
    for (int64_t j = 0; j < problem.columns; j += kLanes<T>) {
      const int64_t at = i * problem.columns + j, count = problem.columns - j;
      Vec<T> cost, entry, scaling;
      load_padded(problem.cost + at, count, T(0), cost, room);
      load(kernel + i * width + j, entry);
      load(y + j, scaling);
      entry *= scaling * x[i];
      row += entry * cost;
      if (plan) store_cut<T>(entry, count, plan + at, room);
    }
    total += double(sum<T>(row));
  }
  *distance = T(total);
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
