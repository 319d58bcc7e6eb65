// Vectors as wide as the registers of this pass (see each_simd.h), on GCC's vector types: they
// compile to whatever the instruction set offers, and need no intrinsics.
#if defined(RLSV_SIMD_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SIMD_H)
#undef RLSV_SIMD_H
#else
#define RLSV_SIMD_H
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace rlsv_fast::RLSV_PASS {

template <typename T>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float type __attribute__((vector_size(RLSV_VECTOR_BYTES)));
  typedef int32_t mask __attribute__((vector_size(RLSV_VECTOR_BYTES)));
  typedef uint32_t bits;
};
template <>
struct VecOf<double> {
  typedef double type __attribute__((vector_size(RLSV_VECTOR_BYTES)));
  typedef int64_t mask __attribute__((vector_size(RLSV_VECTOR_BYTES)));
  typedef uint64_t bits;
};

template <typename T>
using Vec = typename VecOf<T>::type;
template <typename T>
using Mask = typename VecOf<T>::mask;
template <typename T>
using Bits = typename VecOf<T>::bits;
template <typename T>
inline constexpr int64_t kLanes = RLSV_VECTOR_BYTES / sizeof(T);

// Vectors cross function borders by pointer or reference only: passing them by value has a
// different calling convention in each instruction set.
template <typename T>
RLSV_INLINE void load(const T* from, Vec<T>& to) {
  std::memcpy(&to, from, sizeof(to));
}

template <typename T>
RLSV_INLINE void store(const Vec<T>& from, T* to) {
  std::memcpy(to, &from, sizeof(from));
}

// Up to a vector; lanes past `count` read as zero.
template <typename T>
RLSV_INLINE void load_part(const T* from, int64_t count, Vec<T>& to) {
  if (count >= kLanes<T>) return load(from, to);
  T lanes[kLanes<T>] = {};
  for (int64_t lane = 0; lane < count; ++lane) lanes[lane] = from[lane];
  load(lanes, to);
}

template <typename T>
RLSV_INLINE void store_part(const Vec<T>& from, int64_t count, T* to) {
  if (count >= kLanes<T>) return store(from, to);
  T lanes[kLanes<T>];
  store(from, lanes);
  for (int64_t lane = 0; lane < count; ++lane) to[lane] = lanes[lane];
}

// The sign bit cleared.
template <typename T>
RLSV_INLINE void absolute(const Vec<T>& value, Vec<T>& result) {
  constexpr auto kAllButSign = static_cast<std::make_signed_t<Bits<T>>>(~Bits<T>{0} >> 1);
  result = reinterpret_cast<Vec<T>>(reinterpret_cast<Mask<T>>(value) & kAllButSign);
}

// kSignUnit times the sign of every lane: exact zeros at +0, anything at NaN and, as AVX2 has the
// sign of integers only, at -0. kSignUnit is 0 where that takes more than an instruction.
#if RLSV_VECTOR_BYTES == 64
template <typename T>
inline constexpr T kSignUnit = 1;

template <typename T>
RLSV_INLINE void sign(const Vec<T>& value, Vec<T>& result) {
  // From the lowest digit: two kinds of NaN, 0, 1, -inf, inf, negative, positive, which become
  // 0 (8), -1 (9) and 1 (10).
  constexpr auto kTable = static_cast<int32_t>(0xA9A9A888);
  if constexpr (sizeof(T) == sizeof(float)) {
    result = __builtin_ia32_fixupimmps512_mask(value, value, Mask<T>{} + kTable, 0, -1, 4);
  } else {
    typedef long long Table __attribute__((vector_size(64)));
    result = __builtin_ia32_fixupimmpd512_mask(value, value, Table{} + kTable, 0, -1, 4);
  }
}
#elif RLSV_VECTOR_BYTES == 32
template <typename T>
inline constexpr T kSignUnit = sizeof(T) == sizeof(float) ? 2 : 0;

template <typename T>
RLSV_INLINE void sign(const Vec<T>& value, Vec<T>& result) {
  // The bits of 2 and of -2 are each other's negative as integers, too; only theirs are.
  constexpr int32_t kTwo = 0x40000000;
  result = reinterpret_cast<Vec<T>>(
      __builtin_ia32_psignd256(Mask<T>{} + kTwo, reinterpret_cast<Mask<T>>(value)));
}
#else
template <typename T>
inline constexpr T kSignUnit = 0;
#endif

// Half a vector of floats fills a vector of doubles: sums of float data are made in double.
RLSV_INLINE void widen(const float* from, Vec<double>& to) {
  typedef float Half __attribute__((vector_size(RLSV_VECTOR_BYTES / 2)));
  Half half;
  std::memcpy(&half, from, sizeof(half));
  to = __builtin_convertvector(half, Vec<double>);
}
RLSV_INLINE void widen(const double* from, Vec<double>& to) { load(from, to); }

RLSV_INLINE void narrow(const Vec<double>& from, float* to) {
  typedef float Half __attribute__((vector_size(RLSV_VECTOR_BYTES / 2)));
  const Half half = __builtin_convertvector(from, Half);
  std::memcpy(to, &half, sizeof(half));
}
RLSV_INLINE void narrow(const Vec<double>& from, double* to) { store<double>(from, to); }

// As load_part and store_part, through double.
template <typename T>
RLSV_INLINE void widen_part(const T* from, int64_t count, Vec<double>& to) {
  if (count >= kLanes<double>) return widen(from, to);
  T lanes[kLanes<double>] = {};
  for (int64_t lane = 0; lane < count; ++lane) lanes[lane] = from[lane];
  widen(lanes, to);
}

template <typename T>
RLSV_INLINE void narrow_part(const Vec<double>& from, int64_t count, T* to) {
  if (count >= kLanes<double>) return narrow(from, to);
  T lanes[kLanes<double>];
  narrow(from, lanes);
  for (int64_t lane = 0; lane < count; ++lane) to[lane] = lanes[lane];
}

// Adds all lanes of a vector to those of a sum in double, in a fixed order.
template <typename T>
RLSV_INLINE void add_lanes(const Vec<T>& from, Vec<double>& total) {
  T lanes[kLanes<T>];
  store(from, lanes);
  for (int64_t lane = 0; lane < kLanes<T>; lane += kLanes<double>) {
    Vec<double> part;
    widen(lanes + lane, part);
    total += part;
  }
}

// The lanes added in a fixed pairwise order.
template <typename T>
RLSV_INLINE T sum(const Vec<T>& vector) {
  T lanes[kLanes<T>];
  store(vector, lanes);
  for (int64_t width = kLanes<T> / 2; width > 0; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

#if !defined(__clang__)
// Groups of 2 `width` lanes of two vectors, folded to `width` lanes each, in order.
template <typename T, int64_t width>
RLSV_INLINE void fold(const Vec<T>& first, const Vec<T>& second, Vec<T>& result) {
  Mask<T> low, high;
  for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
    low[lane] = lane / width * 2 * width + lane % width;
    high[lane] = low[lane] + width;
  }
  result = __builtin_shuffle(first, second, low) + __builtin_shuffle(first, second, high);
}

// `count` vectors in groups of 2 `width` lanes, folded until every group is one lane of the first.
template <typename T, int64_t count, int64_t width>
RLSV_INLINE void fold_all(Vec<T>* vectors) {
  if constexpr (count > 1) {
#pragma GCC unroll 8
    for (int64_t k = 0; k < count / 2; ++k)
      fold<T, width>(vectors[2 * k], vectors[2 * k + 1], vectors[k]);
  } else {
    fold<T, width>(vectors[0], vectors[0], vectors[0]);
  }
  if constexpr (width > 1) fold_all<T, (count > 1 ? count / 2 : 1), width / 2>(vectors);
}
#endif

// The sums of several vectors, bit by bit those of sum(), with a third of the instructions.
template <typename T, int64_t count>
RLSV_INLINE void sum_each(Vec<T> (&vectors)[count], T* sums) {
#if !defined(__clang__)
  if constexpr (count <= kLanes<T>) {
    fold_all<T, count, kLanes<T> / 2>(vectors);
    T lanes[kLanes<T>];
    store<T>(vectors[0], lanes);
    for (int64_t k = 0; k < count; ++k) sums[k] = lanes[k];
    return;
  }
#endif
  for (int64_t k = 0; k < count; ++k) sums[k] = sum<T>(vectors[k]);
}

}  // namespace rlsv_fast::RLSV_PASS

#endif
