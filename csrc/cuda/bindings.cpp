// The only CUDA file that sees tensors: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "frame_distance.h"
#include "grid.h"
#include "launch.h"
#include "modulated_cosines.h"
#include "neg_snr.h"
#include "overlap_add.h"
#include "si_sdr.h"
#include "total_variation.h"

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
  const int64_t chunks =
      modulator.size(0) == 1 ? cuda::modulated_cosines_chunks(frequency.size(0)) : 0;
  Tensor partials = torch::stable::new_empty(modulator, {chunks, modulator.size(1)});
  dispatch_floating(frequency, "modulated_cosines", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::modulated_cosines_backward(
        cosines<T>(frequency, phase, modulator, order, power), read<T>(grad), write<T>(partials),
        write<T>(grad_frequency), write<T>(grad_phase), write<T>(grad_modulator), launch.stream()));
  });
  return {grad_frequency, grad_phase, grad_modulator};
}

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
            static_cast<Normalize>(normalize)};
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

cuda::VariationShape variation_shape(const Tensor& representation) {
  return cuda::variation_shape(representation.size(0), representation.size(1),
                               representation.size(2));
}

// Also returns the two norms |d|_2, |e|_2 (float64) where norm is 2, nothing where it is 1.
std::tuple<Tensor, Tensor> total_variation_forward(const Tensor& representation, int64_t norm) {
  check_total_variation(representation, norm);
  const Launch launch(representation, "total_variation");
  const bool squared = norm == 2;
  const cuda::VariationShape shape = variation_shape(representation);
  Tensor value = squared ? torch::stable::new_empty(representation, {})
                         : torch::stable::new_empty(representation, {shape.batch});
  Tensor norms = torch::stable::new_empty(representation, {squared ? 2 : 0}, ScalarType::Double);
  Tensor partials =
      torch::stable::new_empty(representation, {shape.partials, 2}, ScalarType::Double);
  dispatch_floating(representation, "total_variation", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::total_variation_forward(read<T>(representation), shape, squared,
                                               write<double>(partials), write<double>(norms),
                                               write<T>(value), launch.stream()));
  });
  return {value, norms};
}

Tensor total_variation_backward(const Tensor& grad, const Tensor& representation,
                                const Tensor& norms, int64_t norm) {
  check_total_variation_backward(grad, representation, norms, norm);
  const Launch launch(representation, "total_variation");
  const cuda::VariationShape shape = variation_shape(representation);
  Tensor result =
      torch::stable::new_empty(representation, {shape.batch, shape.components, shape.frames});
  dispatch_floating(representation, "total_variation", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::total_variation_backward(read<T>(grad), read<T>(representation),
                                                read<double>(norms), shape, norm == 2,
                                                write<T>(result), launch.stream()));
  });
  return result;
}

Tensor frames(const Tensor& signal, int64_t taps, int64_t hop, int64_t count, int64_t offset) {
  check_frames(signal, taps, hop, count);
  const Launch launch(signal, "frames");
  const cuda::Framing shape{signal.size(0), signal.size(1), count, taps, hop, offset};
  Tensor result = torch::stable::new_empty(signal, {shape.batch, count, taps});
  dispatch_floating(signal, "frames", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::frames(read<T>(signal), shape, write<T>(result), launch.stream()));
  });
  return result;
}

Tensor overlap_add(const Tensor& frames, int64_t hop, int64_t length, int64_t offset) {
  check_overlap_add(frames, hop, length);
  const Launch launch(frames, "overlap_add");
  const cuda::Framing shape{frames.size(0), length, frames.size(1), frames.size(2), hop, offset};
  Tensor result = torch::stable::new_empty(frames, {shape.batch, length});
  dispatch_floating(frames, "overlap_add", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::overlap_add(read<T>(frames), shape, write<T>(result), launch.stream()));
  });
  return result;
}

// Also returns the energies S, E per row, shape (rows, 2), float64.
std::tuple<Tensor, Tensor> neg_snr_forward(const Tensor& estimate, const Tensor& target,
                                           bool batch) {
  check_pair(estimate, target, "neg_snr");
  const Launch launch(estimate, "neg_snr");
  const ValueRows rows = neg_snr_rows(estimate, batch);
  const cuda::Chunks chunks = cuda::cut_rows(rows.count, rows.length);
  Tensor value = batch ? torch::stable::new_empty(estimate, {})
                       : torch::stable::new_empty(estimate, {rows.count});
  Tensor energies = torch::stable::new_empty(estimate, {rows.count, 2}, ScalarType::Double);
  Tensor partials = torch::stable::new_empty(estimate, {chunks.total, 2}, ScalarType::Double);
  dispatch_floating(estimate, "neg_snr", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::neg_snr_forward(read<T>(estimate), read<T>(target), chunks,
                                       write<double>(partials), write<double>(energies),
                                       write<T>(value), launch.stream()));
  });
  return {value, energies};
}

// What a backward pass writes of the target's gradient: an empty tensor unless asked for.
Tensor new_grad_target(const Tensor& target, bool wanted) {
  return wanted ? torch::stable::new_empty(target, {target.size(0), target.size(1)})
                : torch::stable::new_empty(target, {0});
}

std::tuple<Tensor, Tensor> neg_snr_backward(const Tensor& grad, const Tensor& estimate,
                                            const Tensor& target, const Tensor& energies,
                                            bool batch, bool with_target) {
  check_neg_snr_backward(grad, estimate, target, energies, batch);
  const Launch launch(estimate, "neg_snr");
  const ValueRows rows = neg_snr_rows(estimate, batch);
  Tensor grad_estimate = torch::stable::new_empty(estimate, {estimate.size(0), estimate.size(1)});
  Tensor grad_target = new_grad_target(target, with_target);
  dispatch_floating(estimate, "neg_snr", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::neg_snr_backward(
        read<T>(grad), read<T>(estimate), read<T>(target), read<double>(energies), rows.count,
        rows.length, write<T>(grad_estimate), with_target ? write<T>(grad_target) : nullptr,
        launch.stream()));
  });
  return {grad_estimate, grad_target};
}

// Also returns the moments, shape (B, 3), float64.
std::tuple<Tensor, Tensor> si_sdr_forward(const Tensor& estimate, const Tensor& target) {
  check_pair(estimate, target, "si_sdr");
  const Launch launch(estimate, "si_sdr");
  const cuda::Chunks chunks = cuda::cut_rows(estimate.size(0), estimate.size(1));
  Tensor value = torch::stable::new_empty(estimate, {chunks.rows});
  Tensor moments = torch::stable::new_empty(estimate, {chunks.rows, 3}, ScalarType::Double);
  Tensor partials = torch::stable::new_empty(estimate, {chunks.total, 3}, ScalarType::Double);
  dispatch_floating(estimate, "si_sdr", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::si_sdr_forward(
        read<T>(estimate), read<T>(target), chunks, write<double>(partials),
        reinterpret_cast<Moments*>(write<double>(moments)), write<T>(value), launch.stream()));
  });
  return {value, moments};
}

std::tuple<Tensor, Tensor> si_sdr_backward(const Tensor& grad, const Tensor& estimate,
                                           const Tensor& target, const Tensor& moments,
                                           bool with_target) {
  check_si_sdr_backward(grad, estimate, target, moments);
  const Launch launch(estimate, "si_sdr");
  const int64_t items = estimate.size(0), samples = estimate.size(1);
  Tensor grad_estimate = torch::stable::new_empty(estimate, {items, samples});
  Tensor grad_target = new_grad_target(target, with_target);
  dispatch_floating(estimate, "si_sdr", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::si_sdr_backward(
        read<T>(grad), read<T>(estimate), read<T>(target),
        reinterpret_cast<const Moments*>(read<double>(moments)), items, samples,
        write<T>(grad_estimate), with_target ? write<T>(grad_target) : nullptr, launch.stream()));
  });
  return {grad_estimate, grad_target};
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_modulated_cosines_forward", TORCH_BOX(&Contiguous<&modulated_cosines_forward>::call));
  m.impl("_modulated_cosines_backward", TORCH_BOX(&Contiguous<&modulated_cosines_backward>::call));
  m.impl("_frame_distance_forward", TORCH_BOX(&Contiguous<&frame_distance_forward>::call));
  m.impl("_frame_distance_backward", TORCH_BOX(&Contiguous<&frame_distance_backward>::call));
  m.impl("_total_variation_forward", TORCH_BOX(&Contiguous<&total_variation_forward>::call));
  m.impl("_total_variation_backward", TORCH_BOX(&Contiguous<&total_variation_backward>::call));
  m.impl("_frames", TORCH_BOX(&Contiguous<&frames>::call));
  m.impl("_overlap_add", TORCH_BOX(&Contiguous<&overlap_add>::call));
  m.impl("_neg_snr_forward", TORCH_BOX(&Contiguous<&neg_snr_forward>::call));
  m.impl("_neg_snr_backward", TORCH_BOX(&Contiguous<&neg_snr_backward>::call));
  m.impl("_si_sdr_forward", TORCH_BOX(&Contiguous<&si_sdr_forward>::call));
  m.impl("_si_sdr_backward", TORCH_BOX(&Contiguous<&si_sdr_backward>::call));
}
