// The only CUDA file that sees tensors: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "frame_distance.h"
#include "grid.h"
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

// frame_distance

static_assert(int64_t(cuda::Normalize::kNone) == kNone &&
              int64_t(cuda::Normalize::kFeatures) == kFeatures &&
              int64_t(cuda::Normalize::kTime) == kTime);

// A representation with room for its normalised form.
struct FrameRoom {
  int64_t batch, channels, frames, stride, normalize;
  Tensor representation, values, divisors;

  FrameRoom(const Tensor& from, int64_t normalize)
      : batch(from.size(0)),
        channels(from.size(1)),
        frames(from.size(2)),
        stride(cuda::frame_distance_stride(frames)),
        normalize(normalize),
        representation(from),
        values(torch::stable::new_empty(from, {batch, channels, stride})),
        divisors(torch::stable::new_empty(from, {batch, normalize == kTime ? channels : frames})) {}

  template <typename T>
  cuda::Frames<T> pointers() const {
    return {read<T>(representation),
            write<T>(values),
            write<T>(divisors),
            batch,
            channels,
            frames,
            stride,
            static_cast<cuda::Normalize>(normalize)};
  }
};

Tensor frame_distance_forward(const Tensor& representation, int64_t p, int64_t normalize) {
  check_frame_distance(representation, p, normalize);
  const Launch launch(representation, "frame_distance");
  const FrameRoom room(representation, normalize);
  Tensor distance =
      torch::stable::new_empty(representation, {room.batch, room.frames, room.frames});
  dispatch_floating(representation, "frame_distance", [&](auto zero) {
    using T = decltype(zero);
    launch.check(
        cuda::frame_distance_forward(room.pointers<T>(), p, write<T>(distance), launch.stream()));
  });
  return distance;
}

Tensor frame_distance_backward(const Tensor& grad, const Tensor& representation,
                               const Tensor& distance, int64_t p, int64_t normalize) {
  check_frame_distance_backward(grad, representation, distance, p, normalize);
  const Launch launch(representation, "frame_distance");
  const FrameRoom room(representation, normalize);
  Tensor weights = torch::stable::new_empty(grad, {room.batch, room.frames, room.stride});
  Tensor gradient =
      torch::stable::new_empty(representation, {room.batch, room.channels, room.frames});
  dispatch_floating(representation, "frame_distance", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::frame_distance_backward(room.pointers<T>(), p, read<T>(grad),
                                               read<T>(distance), write<T>(weights),
                                               write<T>(gradient), launch.stream()));
  });
  return gradient;
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_modulated_cosines_forward", TORCH_BOX(&Contiguous<&modulated_cosines_forward>::call));
  m.impl("_modulated_cosines_backward", TORCH_BOX(&Contiguous<&modulated_cosines_backward>::call));
  m.impl("_frame_distance_forward", TORCH_BOX(&Contiguous<&frame_distance_forward>::call));
  m.impl("_frame_distance_backward", TORCH_BOX(&Contiguous<&frame_distance_backward>::call));
}
