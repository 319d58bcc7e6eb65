// Binds decode_f0: checks, allocation, guard, stream, launch.
#include <vector>

#include "../operands.h"
#include "decode_f0.h"
#include "launch.h"

namespace rlsv_fast {
namespace {

constexpr const char* kOp = "decode_f0";

// Also returns what the gradient is made of: see cpu/decode_f0.cpp.
std::tuple<Tensor, Tensor, Tensor, Tensor> decode_f0_forward(const Tensor& salience,
                                                             std::vector<double> thresholds,
                                                             int64_t method, double lowest,
                                                             int64_t bins_per_octave) {
  check_decode_f0(salience, thresholds, method, bins_per_octave);
  const Launch launch(salience, kOp);
  const cuda::F0Shape shape{salience.size(0), salience.size(1), salience.size(2), salience.size(3)};
  const F0Grid grid{lowest, double(bins_per_octave)};
  cuda::F0Thresholds limits{};
  std::copy(thresholds.begin(), thresholds.end(), limits.of);
  const bool soft = method == kSoft;
  Tensor f0 = torch::stable::new_empty(salience, {shape.batch, shape.voices, shape.frames});
  Tensor bin = torch::stable::new_empty(salience, {shape.batch, shape.voices, shape.frames},
                                        ScalarType::Int);
  Tensor slope = torch::stable::new_empty(salience, {shape.batch, shape.voices, shape.frames});
  Tensor moved =
      torch::stable::new_empty(salience, {shape.batch, shape.voices, soft ? shape.frames : 0});
  dispatch_floating(salience, kOp, [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::decode_f0_forward(read<T>(salience), shape, F0Method(method), limits, grid,
                                         write<T>(f0), write<int32_t>(bin), write<T>(slope),
                                         soft ? write<T>(moved) : nullptr, launch.stream()));
  });
  return {f0, bin, slope, moved};
}

Tensor decode_f0_backward(const Tensor& grad, const Tensor& bin, const Tensor& slope,
                          const Tensor& moved, int64_t bins, int64_t method) {
  check_decode_f0_backward(grad, bin, slope, moved, bins, method);
  const Launch launch(grad, kOp);
  const cuda::F0Shape shape{grad.size(0), grad.size(1), bins, grad.size(2)};
  Tensor result =
      torch::stable::new_empty(grad, {shape.batch, shape.voices, shape.bins, shape.frames});
  dispatch_floating(grad, kOp, [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::decode_f0_backward(read<T>(grad), read<int32_t>(bin), read<T>(slope),
                                          method == kSoft ? read<T>(moved) : nullptr, shape,
                                          F0Method(method), write<T>(result), launch.stream()));
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_decode_f0_forward", TORCH_BOX(&Contiguous<&decode_f0_forward>::call));
  m.impl("_decode_f0_backward", TORCH_BOX(&Contiguous<&decode_f0_backward>::call));
}
