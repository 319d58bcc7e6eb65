// Binds harmonic_bank: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "harmonic_bank.h"
#include "launch.h"

namespace rlsv_fast {
namespace {

constexpr const char* kOp = "harmonic_bank";

template <typename T>
cuda::HarmonicBank<T> bank_of(const Tensor& f0, const Tensor& amplitude,
                              const Tensor& initial_phase, int64_t hop, int64_t sample_rate,
                              int64_t harmonics) {
  return {read<T>(f0), read<T>(amplitude), read<T>(initial_phase),
          bank_shape(f0, amplitude, hop, sample_rate, harmonics), amplitude.dim() == 2};
}

// Room for `count` structures of 8-byte numbers.
template <typename Part>
Tensor room(const Tensor& like, int64_t count) {
  static_assert(sizeof(Part) % sizeof(double) == 0, "whole numbers");
  return torch::stable::new_empty(like, {count, int64_t(sizeof(Part) / sizeof(double))},
                                  ScalarType::Double);
}
template <typename Part>
Part* parts(const Tensor& room) {
  return reinterpret_cast<Part*>(write<double>(room));
}

std::tuple<Tensor, Tensor> harmonic_bank_forward(const Tensor& f0, const Tensor& amplitude,
                                                 const Tensor& initial_phase, int64_t hop,
                                                 int64_t sample_rate, int64_t harmonics) {
  check_harmonic_bank(f0, amplitude, initial_phase, hop, sample_rate, harmonics);
  const Launch launch(f0, kOp);
  Tensor signal = torch::stable::new_empty(f0, {f0.size(0), f0.size(1) * hop});
  Tensor final_phase = torch::stable::new_empty(f0, {f0.size(0)});
  Tensor pieces = room<BankPiece>(f0, 2 * f0.numel());
  dispatch_floating(f0, kOp, [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::harmonic_bank_forward(
        bank_of<T>(f0, amplitude, initial_phase, hop, sample_rate, harmonics),
        parts<BankPiece>(pieces), write<T>(signal), write<T>(final_phase), launch.stream()));
  });
  return {signal, final_phase};
}

std::tuple<Tensor, Tensor, Tensor> harmonic_bank_backward(const Tensor& grad,
                                                          const Tensor& grad_phase,
                                                          const Tensor& f0, const Tensor& amplitude,
                                                          const Tensor& initial_phase, int64_t hop,
                                                          int64_t sample_rate, int64_t harmonics) {
  check_harmonic_bank_backward(grad, grad_phase, f0, amplitude, initial_phase, hop, sample_rate,
                               harmonics);
  const Launch launch(f0, kOp);
  Tensor grad_f0 = torch::stable::empty_like(f0);
  Tensor grad_amplitude = torch::stable::empty_like(amplitude);
  Tensor grad_initial = torch::stable::empty_like(initial_phase);
  Tensor pieces = room<BankPiece>(f0, 2 * f0.numel()), sums = room<BankSums>(f0, 2 * f0.numel());
  Tensor beyond =
      torch::stable::new_empty(amplitude, {amplitude.dim() == 2 ? 0 : amplitude.numel()});
  dispatch_floating(f0, kOp, [&](auto zero) {
    using T = decltype(zero);
    const cuda::HarmonicBankGradient<T> out{
        read<T>(grad),    read<T>(grad_phase), parts<BankPiece>(pieces), parts<BankSums>(sums),
        write<T>(beyond), write<T>(grad_f0),   write<T>(grad_amplitude), write<T>(grad_initial)};
    launch.check(cuda::harmonic_bank_backward(
        bank_of<T>(f0, amplitude, initial_phase, hop, sample_rate, harmonics), out,
        launch.stream()));
  });
  return {grad_f0, grad_amplitude, grad_initial};
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_harmonic_bank_forward", TORCH_BOX(&Contiguous<&harmonic_bank_forward>::call));
  m.impl("_harmonic_bank_backward", TORCH_BOX(&Contiguous<&harmonic_bank_backward>::call));
}
