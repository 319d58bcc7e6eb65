// Conjugate gradients for (diag(r) + P) z = w, P symmetric with sums r: positive definite, of
// condition 2 at most after division by diag(r). What it takes for float is about eight products.
#if defined(RLSV_SINKHORN_DEFINITE_H) == defined(RLSV_PASS_TOGGLE)
#if defined(RLSV_SINKHORN_DEFINITE_H)
#undef RLSV_SINKHORN_DEFINITE_H
#else
#define RLSV_SINKHORN_DEFINITE_H
#endif

#include "sinkhorn.h"

namespace rlsv_fast::RLSV_PASS {

template <typename T>
class Definite {
 public:
  static constexpr int64_t kVectors = 5;

  Definite() = default;
  Definite(Arena<T>& arena, int64_t width) : width_(width) {
    for (T** slice : {&z_, &residual_, &ahead_, &scratch_, &image_}) *slice = arena.take(width);
  }

  // Returns z, in storage of its own. multiply(v, scratch, image) makes image = P v. Rows with r =
  // 0, and the padding, get 0.
  template <typename Multiply>
  RLSV_INLINE T* solve(const T* r, const T* w, const Multiply& multiply) {
    constexpr int64_t kSteps = 64;
    constexpr T kEnough = std::numeric_limits<T>::epsilon();
    std::fill(z_, z_ + width_, T(0));
    const T unit = largest(w, width_);  // by which w is divided: squares may underflow
    if (!(unit > T(0))) return z_;
    T energy = 0, first = 0, step = 0;
    for (int64_t i = 0; i < width_; ++i) residual_[i] = w[i] / unit;
    for (int64_t count = 0; count <= kSteps; ++count) {
      Vec<T> total = {};
      for (int64_t i = 0; i < width_; i += kLanes<T>) {
        Vec<T> rest, row, direction, moved;
        load(residual_ + i, rest);
        load(r + i, row);
        if (count > 0) {  // the step along the last direction
          load(image_ + i, moved);
          rest -= moved * step;
          store<T>(rest, residual_ + i);
          load(ahead_ + i, direction);
          load(z_ + i, moved);
          store<T>(moved + direction * step, z_ + i);
        }
        total += row > T(0) ? rest * (rest / row) : Vec<T>{};
      }
      const T last = energy;
      energy = sum<T>(total);
      if (count == 0) first = energy;
      if (!(energy > kEnough * kEnough * first) || count == kSteps) break;
      const T keep = count == 0 ? T(0) : energy / last;
      for (int64_t i = 0; i < width_; i += kLanes<T>) {
        Vec<T> rest, row, direction;
        load(residual_ + i, rest);
        load(r + i, row);
        load(ahead_ + i, direction);
        direction =
            (row > T(0) ? rest / row : Vec<T>{}) + (count == 0 ? Vec<T>{} : direction * keep);
        store<T>(direction, ahead_ + i);
      }
      multiply(ahead_, scratch_, image_);
      Vec<T> curvature = {};
      for (int64_t i = 0; i < width_; i += kLanes<T>) {
        Vec<T> row, direction, moved;
        load(r + i, row);
        load(ahead_ + i, direction);
        load(image_ + i, moved);
        moved += row * direction;
        store<T>(moved, image_ + i);
        curvature += moved * direction;
      }
      step = energy / sum<T>(curvature);
    }
    for (int64_t i = 0; i < width_; ++i) z_[i] *= unit;
    return z_;
  }

 private:
  int64_t width_ = 0;
  T *z_ = nullptr, *residual_ = nullptr, *ahead_ = nullptr, *scratch_ = nullptr, *image_ = nullptr;
};

}  // namespace rlsv_fast::RLSV_PASS

#endif
