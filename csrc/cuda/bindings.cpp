// The only CUDA file that sees tensors: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "launch.h"
#include "modulated_cosines.h"

namespace rlsv_fast {
namespace {

template <typename T>
cuda::ModulatedCosines<T> cosines(const Tensor& frequency, const Tensor& phase,
                                  const Tensor& modulator, const Tensor& order, int64_t power) {
  return {read<T>(frequency), read<T>(phase),    read<T>(modulator), read<int64_t>(order),
          frequency.size(0),  modulator.size(1), modulator.size(0),  power};
}

Tensor modulated_cosines_forward(const Tensor& frequency, const Tensor& phase,
                                 const Tensor& modulator, const Tensor& order, int64_t power) {
  check_modulated_cosines(frequency, phase, modulator, order);
  const Launch launch(frequency, "modulated_cosines");
  Tensor weights = torch::stable::new_empty(modulator, {frequency.size(0), modulator.size(1)});
  dispatch_floating(frequency, "modulated_cosines", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::modulated_cosines_forward(
        cosines<T>(frequency, phase, modulator, order, power), write<T>(weights), launch.stream()));
  });
  return weights;
}

std::tuple<Tensor, Tensor, Tensor> modulated_cosines_backward(const Tensor& grad,
                                                              const Tensor& frequency,
                                                              const Tensor& phase,
                                                              const Tensor& modulator,
                                                              const Tensor& order, int64_t power) {
  check_modulated_cosines_backward(grad, frequency, phase, modulator, order);
  const Launch launch(frequency, "modulated_cosines");
  Tensor grad_frequency = torch::stable::new_empty(frequency, {frequency.size(0)});
  Tensor grad_phase = torch::stable::new_empty(phase, {phase.size(0)});
  Tensor grad_modulator =
      torch::stable::new_empty(modulator, {modulator.size(0), modulator.size(1)});
  dispatch_floating(frequency, "modulated_cosines", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::modulated_cosines_backward(
        cosines<T>(frequency, phase, modulator, order, power), read<T>(grad),
        write<T>(grad_frequency), write<T>(grad_phase), write<T>(grad_modulator), launch.stream()));
  });
  return {grad_frequency, grad_phase, grad_modulator};
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_modulated_cosines_forward", TORCH_BOX(&Contiguous<&modulated_cosines_forward>::call));
  m.impl("_modulated_cosines_backward", TORCH_BOX(&Contiguous<&modulated_cosines_backward>::call));
}
