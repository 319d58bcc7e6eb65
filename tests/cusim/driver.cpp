// Calls every launcher on small random data: with memory of exactly the size that it may use, so
// that AddressSanitizer sees one element too far, and few threads, so that ThreadSanitizer can
// watch all of them. Prints one line per operator and type, with a checksum of the results' bits.
#include "driver.h"

#include <cstdio>
#include <cstdlib>

#include "cuda/all_pole.h"
#include "cuda/decode_f0.h"
#include "cuda/frame_convolution.h"
#include "cuda/frame_distance.h"
#include "cuda/gated_recurrence.h"
#include "cuda/grid.h"
#include "cuda/harmonic_bank.h"
#include "cuda/lsf_to_lpc.h"
#include "cuda/modulated_cosines.h"
#include "cuda/neg_snr.h"
#include "cuda/overlap_add.h"
#include "cuda/si_sdr.h"
#include "cuda/sinkhorn.h"
#include "cuda/sinkhorn_gradient.h"
#include "cuda/sinkhorn_reverse.h"
#include "cuda/spectral_loss.h"
#include "cuda/total_variation.h"

namespace rlsv_fast::cuda {
namespace {

template <typename T>
void drive_modulated_cosines(Results& results) {
  for (const int64_t modulators : {11, 1}) {
    const int64_t components = 11, taps = 37;
    const auto frequency = random<T>(components), phase = random<T>(components),
               modulator = random<T>(modulators * taps), grad = random<T>(components * taps);
    std::vector<int64_t> order(components);
    for (int64_t c = 0; c < components; ++c) order[c] = 3 * c % components;
    const ModulatedCosines<T> in{frequency.data(), phase.data(), modulator.data(), order.data(),
                                 components,       taps,         modulators,       2};
    auto weights = room<T>(components * taps),
         partials = room<T>(modulators == 1 ? modulated_cosines_chunks(components) * taps : 0),
         grad_frequency = room<T>(components), grad_phase = room<T>(components),
         grad_modulator = room<T>(modulators * taps);
    results.expect(modulated_cosines_forward(in, weights.data(), nullptr));
    results.expect(modulated_cosines_backward(in, grad.data(), partials.data(),
                                              grad_frequency.data(), grad_phase.data(),
                                              grad_modulator.data(), nullptr));
    results.add(weights, grad_frequency, grad_phase, grad_modulator);
  }
}

template <typename T>
void drive_frame_convolution(Results& results) {
  struct Problem {
    Coefficients of;
    int64_t first, rows;
    Windows shape;
  };
  const Problem problems[] = {
      {{kFrames, 7, 7}, 0, 10, {2, 23, 8, 7, 3, 2, 4, 2}},      // windows overlap
      {{kOutputs, 7, 4}, 0, 10, {2, 23, 3, 4, 3, 2, 4, 0}},     // or follow each other
      {{kFrames, 16, 16}, 0, 23, {1, 19, 2, 16, 1, 3, 5, 7}},   // two groups of rows
      {{kWeights, 70, 25}, 3, 40, {5, 25, 1, 25, 1, 1, 0, 0}},  // taps, no table
      {{kReversedWeights, 9, 37}, 1, 5, {130, 37, 1, 37, 1, 1, 0, 0}},
      {{kFrames, 0, 3}, 0, 3, {2, 9, 4, 3, 2, 4, 1, 1}},  // tap by tap
      {{kOutputs, 0, 1}, 0, 3, {2, 9, 4, 1, 2, 5, 1, 0}},
      {{kReversedWeights, 0, 37}, 5, 30, {3, 37, 1, 37, 1, 1, 0, 0}},
      {{kWeights, 0, 5}, 0, 5, {3, 5, 7, 5, 1, 1, 0, 0}},
  };
  for (const auto& [of, first, rows, shape] : problems) {
    const int64_t frames = shape.batch * shape.frames * shape.channels,
                  spectra = rows * shape.sequences() * shape.channels;
    const auto signal = random<T>(frames), products = random<T>(spectra);
    auto spectrum = room<T>(spectra), added = room<T>(frames), alone = room<T>(frames);
    results.expect(frame_convolution_analysis(signal.data(), of, first, rows, shape,
                                              spectrum.data(), nullptr));
    results.expect(frame_convolution_synthesis(products.data(), signal.data(), of, first, rows,
                                               shape, added.data(), nullptr));
    results.expect(frame_convolution_synthesis<T>(products.data(), nullptr, of, first, rows, shape,
                                                  alone.data(), nullptr));
    results.add(spectrum, added, alone);
  }
}

template <typename T>
void drive_frame_distance(Results& results) {
  const int64_t batch = 2, channels = 7, count = 39;
  const int64_t stride = frame_distance_stride(count);
  const auto representation = random<T>(batch * channels * count),
             grad = random<T>(batch * count * count);
  for (const Normalize normalize : {Normalize::kNone, Normalize::kFeatures, Normalize::kTime})
    for (const int64_t p : {1, 2}) {
      auto values = room<T>(batch * channels * stride),
           divisors = room<T>(batch * (normalize == Normalize::kTime ? channels : count)),
           distance = room<T>(batch * count * count), weights = room<T>(batch * count * stride),
           gradient = room<T>(batch * channels * count);
      const Frames<T> in{representation.data(),
                         values.data(),
                         divisors.data(),
                         batch,
                         channels,
                         count,
                         stride,
                         normalize};
      results.expect(frame_distance_forward(in, p, distance.data(), nullptr));
      results.expect(frame_distance_backward(in, p, grad.data(), distance.data(), weights.data(),
                                             gradient.data(), nullptr));
      results.add(distance, gradient);
    }
}

template <typename T>
void drive_total_variation(Results& results) {
  for (const bool squared : {false, true}) {
    const VariationShape shape = variation_shape(3, 11, 37);
    const auto representation = random<T>(3 * 11 * 37), grad = random<T>(3);
    auto partials = room<double>(2 * shape.partials), norms = room<double>(squared ? 2 : 0);
    auto value = room<T>(squared ? 1 : 3), gradient = room<T>(3 * 11 * 37);
    results.expect(total_variation_forward(representation.data(), shape, squared, partials.data(),
                                           norms.data(), value.data(), nullptr));
    results.expect(total_variation_backward(grad.data(), representation.data(), norms.data(), shape,
                                            squared, gradient.data(), nullptr));
    results.add(value, gradient);
  }
}

template <typename T>
void drive_overlap_add(Results& results) {
  const Framing shapes[] = {{2, 37, 9, 7, 3, 2}, {2, 40, 10, 8, 4, 4}, {1, 20, 4, 3, 5, 0}};
  for (const Framing& shape : shapes) {
    const auto signal = random<T>(shape.batch * shape.length),
               cut = random<T>(shape.batch * shape.count * shape.taps);
    auto framed = room<T>(shape.batch * shape.count * shape.taps),
         added = room<T>(shape.batch * shape.length);
    results.expect(frames(signal.data(), shape, framed.data(), nullptr));
    results.expect(overlap_add(cut.data(), shape, added.data(), nullptr));
    results.add(framed, added);
  }
}

template <typename T>
void drive_lsf_to_lpc(Results& results) {
  for (const int64_t order : {6, 7}) {
    const int64_t rows = 35;
    const auto lsf = random<T>(rows * order), grad = random<T>(rows * order);
    auto lpc = room<T>(rows * order), gradient = room<T>(rows * order);
    results.expect(lsf_to_lpc_forward(lsf.data(), rows, order, lpc.data(), nullptr));
    results.expect(
        lsf_to_lpc_backward(grad.data(), lsf.data(), rows, order, gradient.data(), nullptr));
    results.add(lpc, gradient);
  }
}

template <typename T>
void drive_all_pole(Results& results) {
  const PoleShape shapes[] = {
      {2, 17, 3, 6, 3}, {1, 3, 11, 38, 13}, {2, 3, 32, 34, 9}, {1, 2, 40, 66, 33}};
  for (const PoleShape& shape : shapes) {
    const int64_t samples = shape.batch * shape.samples(), poles = shape.rows() * shape.order,
                  framed = shape.rows() * shape.frame;
    const auto signal = random<T>(samples), grad = random<T>(samples);
    auto filters = random<T>(poles);
    for (T& factor : filters) factor /= T(shape.order);
    auto filtered = room<T>(framed), result = room<T>(samples), flow = room<T>(framed),
         grad_signal = room<T>(samples), grad_coefficients = room<T>(poles);
    results.expect(all_pole_forward(signal.data(), filters.data(), shape, filtered.data(),
                                    result.data(), nullptr));
    results.expect(all_pole_backward(grad.data(), filters.data(), filtered.data(), shape,
                                     flow.data(), grad_signal.data(), grad_coefficients.data(),
                                     nullptr));
    results.add(result, filtered, grad_signal, grad_coefficients);
  }
}

template <typename T>
void drive_neg_snr(Results& results) {
  for (const int64_t length : {37, 4100}) {
    const Chunks rows = cut_rows(2, length);
    const auto estimate = random<T>(2 * length), target = random<T>(2 * length),
               grad = random<T>(2);
    auto partials = room<double>(2 * rows.total), energies = room<double>(2 * 2);
    auto value = room<T>(2), grad_estimate = room<T>(2 * length), grad_target = room<T>(2 * length);
    results.expect(neg_snr_forward(estimate.data(), target.data(), rows, partials.data(),
                                   energies.data(), value.data(), nullptr));
    results.expect(neg_snr_backward(grad.data(), estimate.data(), target.data(), energies.data(), 2,
                                    length, grad_estimate.data(), grad_target.data(), nullptr));
    results.add(value, grad_estimate, grad_target);
  }
}

template <typename T>
void drive_si_sdr(Results& results) {
  for (const int64_t length : {37, 4100}) {
    const Chunks items = cut_rows(2, length);
    const auto estimate = random<T>(2 * length), target = random<T>(2 * length),
               grad = random<T>(2);
    auto partials = room<double>(3 * items.total);
    std::vector<Moments> moments(2);
    auto value = room<T>(2), grad_estimate = room<T>(2 * length), grad_target = room<T>(2 * length);
    results.expect(si_sdr_forward(estimate.data(), target.data(), items, partials.data(),
                                  moments.data(), value.data(), nullptr));
    results.expect(si_sdr_backward(grad.data(), estimate.data(), target.data(), moments.data(), 2,
                                   length, grad_estimate.data(), grad_target.data(), nullptr));
    results.add(value, grad_estimate, grad_target);
  }
}

// Two voices, one of which rises beyond half the sampling rate.
template <typename T>
void drive_harmonic_bank(Results& results) {
  for (const auto& [frames, hop, harmonics, closed] :
       {std::tuple{5, 7, 9, true}, {5, 7, 9, false}, {300, 1, 2, true}, {1, 37, 3, false}}) {
    const BankShape shape{2, frames, hop, harmonics, 1000.0};
    const int64_t rows = shape.batch * frames, samples = rows * hop, count = 2 * rows,
                  amplitudes = closed ? rows : rows * harmonics;
    auto f0 = random<T>(rows);
    for (int64_t i = 0; i < rows; ++i) f0[i] = T(10 + 40 * i / shape.batch) + f0[i];
    const auto amplitude = random<T>(amplitudes), initial = random<T>(shape.batch),
               grad = random<T>(samples), grad_phase = random<T>(shape.batch);
    const HarmonicBank<T> in{f0.data(), amplitude.data(), initial.data(), shape, closed};
    std::vector<BankPiece> pieces(count);
    std::vector<BankSums> sums(count);
    auto signal = room<T>(samples), final_phase = room<T>(shape.batch),
         beyond = room<T>(closed ? 0 : amplitudes), by_f0 = room<T>(rows),
         by_amplitude = room<T>(amplitudes), by_initial = room<T>(shape.batch);
    results.expect(
        harmonic_bank_forward(in, pieces.data(), signal.data(), final_phase.data(), nullptr));
    const HarmonicBankGradient<T> out{grad.data(),         grad_phase.data(), pieces.data(),
                                      sums.data(),         beyond.data(),     by_f0.data(),
                                      by_amplitude.data(), by_initial.data()};
    results.expect(harmonic_bank_backward(in, out, nullptr));
    results.add(signal, final_phase, by_f0, by_amplitude, by_initial);
  }
}

template <typename T>
void drive_decode_f0(Results& results) {
  struct Problem {
    F0Method method;
    F0Shape shape;
  };
  const Problem problems[] = {{kReconstructionAsCoded, {1, 2, 37, 35}},
                              {kSoft, {1, 2, 37, 35}},
                              {kSoft, {1, 1, 5, 33}},  // fewer bins than parts
                              {kSte, {2, 1, 37, 3}},
                              {kSigmoid, {1, 2, 18, 3}}};
  const F0Thresholds thresholds{{0.5, -1.0}};
  for (const auto& [method, shape] : problems) {
    const int64_t tracks = shape.batch * shape.voices * shape.frames;
    const auto salience = random<T>(tracks * shape.bins), grad = random<T>(tracks);
    auto f0 = room<T>(tracks), slope = room<T>(tracks),
         moved = room<T>(method == kSoft ? tracks : 0), gradient = room<T>(tracks * shape.bins);
    std::vector<int32_t> bin(tracks);
    results.expect(decode_f0_forward(salience.data(), shape, method, thresholds, F0Grid{32.7, 60.0},
                                     f0.data(), bin.data(), slope.data(), moved.data(), nullptr));
    results.add(f0, bin, slope, moved);
    if (method == kReconstructionAsCoded) continue;
    results.expect(decode_f0_backward(grad.data(), bin.data(), slope.data(), moved.data(), shape,
                                      method, gradient.data(), nullptr));
    results.add(gradient);
  }
}

template <typename T>
void drive_gated_recurrence(Results& results) {
  for (const GateShape& shape : {GateShape{2, 3, 5}, GateShape{9, 2, 34}}) {
    const int64_t states = shape.items * shape.frames * shape.size, rows = 3 * shape.size;
    const auto projected = random<T>(3 * states), weight = random<T>(rows * shape.size),
               bias = random<T>(rows), grad = random<T>(states);
    auto state = room<T>(states), gates = room<T>(2 * states), candidates = room<T>(states),
         parts = room<T>(states), flow = room<T>(shape.items * shape.size),
         of_projected = room<T>(3 * states), of_parts = room<T>(states);
    results.expect(gated_recurrence_forward(projected.data(), weight.data(), bias.data(), shape,
                                            state.data(), GateMemory<T>{}, nullptr));
    results.add(state);
    results.expect(gated_recurrence_forward(
        projected.data(), weight.data(), bias.data(), shape, state.data(),
        GateMemory<T>{gates.data(), candidates.data(), parts.data()}, nullptr));
    results.expect(gated_recurrence_backward(
        grad.data(), weight.data(), state.data(),
        GateMemory<const T>{gates.data(), candidates.data(), parts.data()}, shape, flow.data(),
        of_projected.data(), of_parts.data(), nullptr));
    results.add(state, gates, candidates, parts, of_projected, of_parts);
  }
}

template <typename T>
void drive_spectral_loss(Results& results) {
  for (const int64_t bins : {37, 2100}) {
    const Chunks rows = cut_rows(2, bins);
    const auto estimate = random<T>(4 * bins), target = random<T>(4 * bins);
    auto partials = room<double>(rows.total);
    auto value = room<T>(2), by_estimate = room<T>(4 * bins), by_target = room<T>(4 * bins);
    const Weights<T> weight(0.7, 0.3, bins);
    results.expect(spectral_loss_forward<T>(estimate.data(), target.data(), rows, weight,
                                            partials.data(), value.data(), by_estimate.data(),
                                            by_target.data(), nullptr));
    results.add(value, by_estimate, by_target);
    results.expect(spectral_loss_forward<T>(estimate.data(), target.data(), rows, weight,
                                            partials.data(), value.data(), nullptr, nullptr,
                                            nullptr));
    results.add(value);
  }
}

// Uneven marginals of mass 1.
template <typename T>
std::vector<T> marginals(int64_t items, int64_t size) {
  std::vector<T> values(items * size);
  for (int64_t i = 0; i < items; ++i)
    for (int64_t j = 0; j < size; ++j)
      values[i * size + j] = T(2 * double(j + 1) / double(size * (size + 1)));
  return values;
}

// Where `warm`, problems start from given potentials, and share one cost.
template <typename T>
void drive_sinkhorn(Results& results) {
  const int64_t items = 2;
  for (const auto& [rows, columns, symmetric, warm] : {std::tuple{17, 23, false, false},
                                                       {17, 23, false, true},
                                                       {19, 19, true, false},
                                                       {19, 19, true, true}}) {
    const int64_t size = rows * columns, costs = warm ? 1 : items, stride = warm ? 0 : size;
    auto cost = random<T>(costs * size);
    if (symmetric)
      for (int64_t k = 0; k < costs; ++k)
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j <= i; ++j) {
            T* matrix = cost.data() + k * size;
            matrix[j * columns + i] = i == j ? T(0) : matrix[i * columns + j];
          }
    const auto row = marginals<T>(items, rows), column = marginals<T>(items, columns);
    auto start = random<T>(items * rows);
    start[1] = -T(INFINITY);
    const std::vector<T> epsilon{T(0.004), T(0.3)};
    Sinkhorn<T> in{cost.data(), epsilon.data(), row.data(), column.data(), nullptr,  items, rows,
                   columns,     stride,         6,          0.0,           symmetric};
    if (warm) in.initial = start.data();
    int64_t numbers = 0;
    results.expect(sinkhorn_workspace(items, rows, columns, sizeof(T), numbers));
    auto workspace = room<T>(numbers), distance = room<T>(items), plan = room<T>(items * size),
         f = room<T>(items * rows), g = room<T>(items * columns), error = room<T>(items);
    std::vector<int64_t> iterations(items);
    results.expect(sinkhorn_forward(
        in, {distance.data(), plan.data(), f.data(), g.data(), iterations.data(), error.data()},
        workspace.data(), nullptr));
    results.add(distance, plan, f, g, error);

    auto grad_cost = room<T>(items * size), grad_epsilon = room<T>(items),
         grad_row = room<T>(items * rows), grad_column = room<T>(items * columns);
    for (const bool of_distance : {true, false}) {
      const auto grad = random<T>(of_distance ? 0 : items * size);
      const SinkhornGradient<T> gradient{of_distance ? nullptr : grad.data(),
                                         cost.data(),
                                         plan.data(),
                                         f.data(),
                                         g.data(),
                                         epsilon.data(),
                                         items,
                                         rows,
                                         columns,
                                         stride,
                                         symmetric && of_distance,  // else by elimination
                                         grad_cost.data(),
                                         grad_epsilon.data(),
                                         grad_row.data(),
                                         grad_column.data()};
      int64_t doubles = 0;
      results.expect(sinkhorn_gradient_workspace(gradient, doubles));
      auto gradient_workspace = room<double>(doubles);
      const auto failed = std::make_unique<bool[]>(items);
      results.expect(sinkhorn_gradient(gradient, gradient_workspace.data(), failed.get(), nullptr));
      results.add(grad_cost, grad_epsilon, grad_row, grad_column);
    }

    if (warm) continue;  // not for the iterations that are kept
    auto potentials = room<T>(items * (in.max_iterations + 1) * (rows + columns));
    results.expect(sinkhorn_unrolled_forward(in, distance.data(), potentials.data(), error.data(),
                                             workspace.data(), nullptr));
    const auto grad = random<T>(items);
    const SinkhornReverse<T> reverse{grad.data(),
                                     cost.data(),
                                     epsilon.data(),
                                     row.data(),
                                     column.data(),
                                     potentials.data(),
                                     items,
                                     rows,
                                     columns,
                                     in.max_iterations,
                                     grad_cost.data(),
                                     grad_epsilon.data(),
                                     grad_row.data(),
                                     grad_column.data()};
    results.expect(sinkhorn_reverse_workspace(reverse, numbers));
    auto reverse_workspace = room<T>(numbers);
    results.expect(sinkhorn_reverse(reverse, reverse_workspace.data(), nullptr));
    results.add(distance, potentials, error, grad_cost, grad_epsilon, grad_row, grad_column);
  }
}

}  // namespace
}  // namespace rlsv_fast::cuda

#define DRIVE(OP)                                    \
  Results(#OP " float32").run([](Results& results) { \
    rlsv_fast::cuda::drive_##OP<float>(results);     \
  });                                                \
  Results(#OP " float64").run([](Results& results) { \
    rlsv_fast::cuda::drive_##OP<double>(results);    \
  })

int main() {
  setvbuf(stdout, nullptr, _IOLBF, 0);  // what was done is known if the next operator aborts
  DRIVE(modulated_cosines);
  DRIVE(frame_convolution);
  DRIVE(frame_distance);
  DRIVE(total_variation);
  DRIVE(overlap_add);
  DRIVE(lsf_to_lpc);
  DRIVE(all_pole);
  DRIVE(neg_snr);
  DRIVE(si_sdr);
  DRIVE(harmonic_bank);
  DRIVE(decode_f0);
  DRIVE(gated_recurrence);
  DRIVE(spectral_loss);
  DRIVE(sinkhorn);
}
