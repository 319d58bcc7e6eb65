// Checks, dispatch and threads for the operators of _C: the only place that knows torch's stable
// ABI beyond tensors and registrations. Python (rlsv_fast/ops) raises the readable errors first;
// these checks are the cheap second line that no ordinary mistake reaches.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

#ifdef __SANITIZE_THREAD__
#include "thread_sanitizer.h"
#endif

namespace rlsv_fast {

using Tensor = torch::stable::Tensor;
using ScalarType = torch::headeronly::ScalarType;

// Calls body(zero) with a float or double zero according to the tensor's type.
template <typename Body>
auto dispatch_floating(const Tensor& tensor, const char* op, Body&& body) {
  const ScalarType type = tensor.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, op,
                  ": expected float32 or float64");
  if (type == ScalarType::Double) return body(double{0});
  return body(float{0});
}

// What a kernel is given: tensors as they are stored, everything else as it is.
inline Tensor stored(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}
template <typename T>
T stored(T value) {
  return value;
}

// `call` is `function` with contiguous tensors. Python passes such already, but a graph exported
// with contiguous examples has lost the copies that made them.
template <auto function>
struct Contiguous;
template <typename Result, typename... Arguments, Result (*function)(Arguments...)>
struct Contiguous<function> {
  static Result call(Arguments... arguments) { return function(stored(arguments)...); }
};

inline void check_input(const Tensor& tensor, int64_t dim, const char* op, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == dim, op, ": ", name, " must have ", dim, " dimensions, got ",
                  tensor.dim());
  STD_TORCH_CHECK(tensor.is_contiguous(), op, ": ", name, " must be contiguous");
}

inline void check_same_device(const Tensor& first, const Tensor& second, const char* op,
                              const char* name) {
  STD_TORCH_CHECK(
      first.is_cuda() == second.is_cuda() && first.get_device_index() == second.get_device_index(),
      op, ": ", name, " must be on the device of the first argument");
}

inline void check_same_type(const Tensor& first, const Tensor& second, const char* op,
                            const char* name) {
  check_same_device(first, second, op, name);
  STD_TORCH_CHECK(first.scalar_type() == second.scalar_type(), op, ": ", name,
                  " must have the type of the first argument");
}

template <typename scalar_t>
const scalar_t* read(const Tensor& tensor) {
  return static_cast<const scalar_t*>(tensor.const_data_ptr());
}

template <typename scalar_t>
scalar_t* write(const Tensor& tensor) {
  return static_cast<scalar_t*>(tensor.mutable_data_ptr());
}

// Runs body(begin, end) over [0, count) on torch's own threads. `cost` is the rough number of
// vector operations per index: below about 32k operations a second thread costs more than it gives.
template <typename Body>
void parallel(int64_t count, int64_t cost, const Body& body) {
  constexpr int64_t kWorthAThread = 32768;
  const int64_t grain = cost >= kWorthAThread ? 1 : kWorthAThread / (cost > 0 ? cost : 1);
#ifdef __SANITIZE_THREAD__
  torch::stable::parallel_for(0, count, grain, Forked<Body>(body));
#else
  torch::stable::parallel_for(0, count, grain, body);
#endif
}

}  // namespace rlsv_fast
