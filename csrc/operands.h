// What each raw operator accepts: the second line of checks, the same on every device. The first
// line, with the readable messages, is Python's (rlsv_fast/ops).
#pragma once

#include <vector>

#include "all_pole_rules.h"
#include "check.h"
#include "decode_f0_rules.h"
#include "frame_convolution_rules.h"
#include "frame_distance_rules.h"
#include "gated_recurrence_rules.h"
#include "harmonic_bank_rules.h"
#include "lsf_rules.h"

namespace rlsv_fast {

// modulated_cosines

inline void check_modulated_cosines(const Tensor& frequency, const Tensor& phase,
                                    const Tensor& modulator, const Tensor& order) {
  const char* op = "modulated_cosines";
  check_input(frequency, 1, op, "frequency");
  check_input(phase, 1, op, "phase");
  check_input(modulator, 2, op, "modulator");
  check_input(order, 1, op, "order");
  check_same_type(frequency, phase, op, "phase");
  check_same_type(frequency, modulator, op, "modulator");
  check_same_device(frequency, order, op, "order");
  const int64_t components = frequency.size(0);
  STD_TORCH_CHECK(order.scalar_type() == ScalarType::Long, op, ": order must be int64");
  STD_TORCH_CHECK(phase.size(0) == components && order.size(0) == components, op,
                  ": frequency, phase and order must have the same length");
  STD_TORCH_CHECK(modulator.size(0) == components || modulator.size(0) == 1, op,
                  ": modulator must have 1 or C rows");
}

inline void check_modulated_cosines_backward(const Tensor& grad, const Tensor& frequency,
                                             const Tensor& phase, const Tensor& modulator,
                                             const Tensor& order) {
  const char* op = "modulated_cosines";
  check_modulated_cosines(frequency, phase, modulator, order);
  check_input(grad, 2, op, "grad");
  check_same_type(frequency, grad, op, "grad");
  STD_TORCH_CHECK(grad.size(0) == frequency.size(0) && grad.size(1) == modulator.size(1), op,
                  ": grad must have shape (C, L)");
}

// frame_distance

inline void check_frame_distance(const Tensor& representation, int64_t p, int64_t normalize) {
  const char* op = "frame_distance";
  check_input(representation, 3, op, "representation");
  STD_TORCH_CHECK(p == 1 || p == 2, op, ": p must be 1 or 2");
  STD_TORCH_CHECK(normalize >= kNone && normalize <= kTime, op, ": unknown normalize");
}

inline void check_frame_distance_backward(const Tensor& grad, const Tensor& representation,
                                          const Tensor& distance, int64_t p, int64_t normalize) {
  const char* op = "frame_distance";
  check_frame_distance(representation, p, normalize);
  check_input(grad, 3, op, "grad");
  check_input(distance, 3, op, "distance");
  check_same_type(representation, grad, op, "grad");
  check_same_type(representation, distance, op, "distance");
  const int64_t batch = representation.size(0), frames = representation.size(2);
  for (const Tensor& pairs : {grad, distance})
    STD_TORCH_CHECK(pairs.size(0) == batch && pairs.size(1) == frames && pairs.size(2) == frames,
                    op, ": grad and distance must have shape (B, T, T)");
}

// total_variation

inline void check_total_variation(const Tensor& representation, int64_t norm) {
  const char* op = "total_variation";
  check_input(representation, 3, op, "representation");
  STD_TORCH_CHECK(norm == 1 || norm == 2, op, ": norm must be 1 or 2, got ", norm);
}

inline void check_total_variation_backward(const Tensor& grad, const Tensor& representation,
                                           const Tensor& norms, int64_t norm) {
  const char* op = "total_variation";
  const bool squared = norm == 2;
  check_total_variation(representation, norm);
  check_input(grad, squared ? 0 : 1, op, "grad");
  check_same_type(representation, grad, op, "grad");
  check_same_device(representation, norms, op, "norms");
  STD_TORCH_CHECK(squared || grad.size(0) == representation.size(0), op,
                  ": grad must have one number per item");
  STD_TORCH_CHECK(norms.numel() == (squared ? 2 : 0), op, ": norms must come from the forward");
}

// frames and overlap_add

inline void check_frames(const Tensor& signal, int64_t taps, int64_t hop, int64_t count) {
  check_input(signal, 2, "frames", "signal");
  STD_TORCH_CHECK(taps >= 0 && hop >= 1 && count >= 0,
                  "frames: kernel_size and count must not be negative, hop must be positive");
}

inline void check_overlap_add(const Tensor& frames, int64_t hop, int64_t length) {
  check_input(frames, 3, "overlap_add", "frames");
  STD_TORCH_CHECK(hop >= 1 && length >= 0,
                  "overlap_add: hop must be positive, length must not be negative");
}

// frame_convolution

// What both transforms take; `first` and `rows` choose rows of the coefficients.
inline void check_frame_convolution(const Tensor& tensor, const Coefficients& of, int64_t first,
                                    int64_t rows, int64_t dilation, int64_t tiles,
                                    int64_t advance) {
  const char* op = "frame_convolution";
  check_input(tensor, 3, op, "frames and spectra");
  STD_TORCH_CHECK(of.side >= kWeights && of.side <= kOutputs, op, ": unknown side");
  STD_TORCH_CHECK(of.points >= 0 && of.terms >= 0 && first >= 0 && rows >= 0, op,
                  ": points, terms and rows must not be negative");
  STD_TORCH_CHECK(
      dilation >= 1 && tiles >= 0 && advance >= (tiles > 1 ? 1 : 0) && advance <= of.terms, op,
      ": dilation must be positive, tiles must not be negative, must advance and must "
      "not leave gaps");
}

// `addend` is empty for none.
inline void check_frame_convolution_synthesis(const Tensor& spectrum, const Tensor& addend,
                                              const Windows& shape) {
  const char* op = "frame_convolution";
  check_input(addend, 3, op, "addend");
  check_same_type(spectrum, addend, op, "addend");
  STD_TORCH_CHECK(shape.batch >= 0 && shape.frames >= 0, op,
                  ": batch and frames must not be negative");
  STD_TORCH_CHECK(spectrum.size(1) == shape.sequences(), op,
                  ": spectrum must have shape (R, B q d, C)");
  STD_TORCH_CHECK(
      addend.numel() == 0 || (addend.size(0) == shape.batch && addend.size(1) == shape.frames &&
                              addend.size(2) == shape.channels),
      op, ": addend must have the shape of the result, or be empty");
}

// lsf_to_lpc

inline void check_lsf_to_lpc(const Tensor& lsf) {
  const char* op = "lsf_to_lpc";
  check_input(lsf, 2, op, "lsf");
  STD_TORCH_CHECK(lsf.size(1) <= kMostLines, op, ": at most ", kMostLines, " frequencies");
}

inline void check_lsf_to_lpc_backward(const Tensor& grad, const Tensor& lsf) {
  const char* op = "lsf_to_lpc";
  check_lsf_to_lpc(lsf);
  check_input(grad, 2, op, "grad");
  check_same_type(grad, lsf, op, "lsf");
  STD_TORCH_CHECK(grad.size(0) == lsf.size(0) && grad.size(1) == lsf.size(1), op,
                  ": grad must have the shape of lsf");
}

// all_pole

inline PoleShape check_filters(const Tensor& coefficients, int64_t frame, int64_t hop) {
  const char* op = "all_pole";
  check_input(coefficients, 3, op, "coefficients");
  STD_TORCH_CHECK(coefficients.size(2) <= kMostPoles, op, ": at most ", kMostPoles, " poles");
  STD_TORCH_CHECK(hop >= 1 && frame >= hop && frame % 2 == 0, op,
                  ": hop must be positive, frame must be even and at least hop");
  return {coefficients.size(0), coefficients.size(1), coefficients.size(2), frame, hop};
}

inline PoleShape check_all_pole(const Tensor& signal, const Tensor& coefficients, int64_t frame,
                                int64_t hop) {
  const char* op = "all_pole";
  const PoleShape shape = check_filters(coefficients, frame, hop);
  check_input(signal, 2, op, "signal");
  check_same_type(signal, coefficients, op, "coefficients");
  STD_TORCH_CHECK(signal.size(0) == shape.batch && signal.size(1) == shape.samples(), op,
                  ": signal must have shape (B, T hop)");
  return shape;
}

inline PoleShape check_all_pole_backward(const Tensor& grad, const Tensor& coefficients,
                                         const Tensor& filtered, int64_t hop) {
  const char* op = "all_pole";
  check_input(filtered, 3, op, "filtered");
  check_same_type(grad, filtered, op, "filtered");
  const PoleShape shape = check_all_pole(grad, coefficients, filtered.size(2), hop);
  STD_TORCH_CHECK(filtered.size(0) == shape.batch && filtered.size(1) == shape.frames, op,
                  ": filtered must have shape (B, T, frame)");
  return shape;
}

// neg_snr and si_sdr

inline void check_pair(const Tensor& estimate, const Tensor& target, const char* op) {
  check_input(estimate, 2, op, "estimate");
  check_input(target, 2, op, "target");
  check_same_type(estimate, target, op, "target");
  STD_TORCH_CHECK(target.size(0) == estimate.size(0) && target.size(1) == estimate.size(1), op,
                  ": estimate and target must have the same shape");
}

// The rows over which neg_snr sums: the items, or the whole batch as one.
struct ValueRows {
  int64_t count, length;
};
inline ValueRows neg_snr_rows(const Tensor& estimate, bool batch) {
  const int64_t items = estimate.size(0), samples = estimate.size(1);
  return batch ? ValueRows{1, items * samples} : ValueRows{items, samples};
}

inline void check_neg_snr_backward(const Tensor& grad, const Tensor& estimate, const Tensor& target,
                                   const Tensor& energies, bool batch) {
  const char* op = "neg_snr";
  check_pair(estimate, target, op);
  check_input(grad, batch ? 0 : 1, op, "grad");
  check_same_type(estimate, grad, op, "grad");
  check_same_device(estimate, energies, op, "energies");
  const int64_t rows = neg_snr_rows(estimate, batch).count;
  STD_TORCH_CHECK(grad.numel() == rows && energies.numel() == 2 * rows, op,
                  ": grad and energies must have one row per value");
}

inline void check_si_sdr_backward(const Tensor& grad, const Tensor& estimate, const Tensor& target,
                                  const Tensor& moments) {
  const char* op = "si_sdr";
  check_pair(estimate, target, op);
  check_input(grad, 1, op, "grad");
  check_same_type(estimate, grad, op, "grad");
  check_same_device(estimate, moments, op, "moments");
  const int64_t items = estimate.size(0);
  STD_TORCH_CHECK(grad.size(0) == items && moments.numel() == 3 * items, op,
                  ": grad and moments must have one row per item");
}

// harmonic_bank

constexpr int64_t kMostHarmonics = int64_t(1) << 20;

// Amplitudes of shape (B, T, K) say themselves how many harmonics there are.
inline BankShape bank_shape(const Tensor& f0, const Tensor& amplitude, int64_t hop,
                            int64_t sample_rate, int64_t harmonics) {
  return {f0.size(0), f0.size(1), hop, amplitude.dim() == 3 ? amplitude.size(2) : harmonics,
          double(sample_rate)};
}

inline void check_harmonic_bank(const Tensor& f0, const Tensor& amplitude,
                                const Tensor& initial_phase, int64_t hop, int64_t sample_rate,
                                int64_t harmonics) {
  const char* op = "harmonic_bank";
  check_input(f0, 2, op, "f0");
  check_input(amplitude, amplitude.dim() == 3 ? 3 : 2, op, "amplitude");
  check_input(initial_phase, 1, op, "initial_phase");
  check_same_type(f0, amplitude, op, "amplitude");
  check_same_type(f0, initial_phase, op, "initial_phase");
  STD_TORCH_CHECK(amplitude.size(0) == f0.size(0) && amplitude.size(1) == f0.size(1), op,
                  ": amplitude must have shape (B, T) or (B, T, K)");
  STD_TORCH_CHECK(initial_phase.size(0) == f0.size(0), op, ": initial_phase must have shape (B,)");
  const BankShape shape = bank_shape(f0, amplitude, hop, sample_rate, harmonics);
  STD_TORCH_CHECK(hop >= 1 && sample_rate >= 1, op, ": hop and sample_rate must be positive");
  STD_TORCH_CHECK(shape.harmonics >= 0 && shape.harmonics <= kMostHarmonics, op,
                  ": harmonics must not be negative, and at most ", kMostHarmonics);
}

inline void check_harmonic_bank_backward(const Tensor& grad, const Tensor& grad_phase,
                                         const Tensor& f0, const Tensor& amplitude,
                                         const Tensor& initial_phase, int64_t hop,
                                         int64_t sample_rate, int64_t harmonics) {
  const char* op = "harmonic_bank";
  check_harmonic_bank(f0, amplitude, initial_phase, hop, sample_rate, harmonics);
  check_input(grad, 2, op, "grad");
  check_input(grad_phase, 1, op, "grad_phase");
  check_same_type(f0, grad, op, "grad");
  check_same_type(f0, grad_phase, op, "grad_phase");
  STD_TORCH_CHECK(grad.size(0) == f0.size(0) && grad.size(1) == f0.size(1) * hop, op,
                  ": grad must have shape (B, T hop)");
  STD_TORCH_CHECK(grad_phase.size(0) == f0.size(0), op, ": grad_phase must have shape (B,)");
}

// gated_recurrence

inline void check_gated_recurrence(const Tensor& projected, const Tensor& weight,
                                   const Tensor& bias) {
  const char* op = "gated_recurrence";
  check_input(projected, 3, op, "projected");
  check_input(weight, 2, op, "weight");
  check_input(bias, 1, op, "bias");
  check_same_type(projected, weight, op, "weight");
  check_same_type(projected, bias, op, "bias");
  const int64_t sums = projected.size(2), size = weight.size(1);
  STD_TORCH_CHECK(size >= 1 && sums == 3 * size && weight.size(0) == sums && bias.size(0) == sums,
                  op, ": projected, weight and bias must have shapes (B, T, 3H), (3H, H), (3H)");
}

inline void check_gated_recurrence_backward(const Tensor& grad, const Tensor& weight,
                                            const Tensor& states, const Tensor& gates,
                                            const Tensor& candidates, const Tensor& parts) {
  const char* op = "gated_recurrence";
  check_input(grad, 3, op, "grad");
  check_input(weight, 2, op, "weight");
  check_same_type(grad, weight, op, "weight");
  const int64_t size = grad.size(2);
  STD_TORCH_CHECK(size >= 1 && weight.size(0) == 3 * size && weight.size(1) == size, op,
                  ": weight must have shape (3H, H)");
  for (const Tensor& kept : {states, gates, candidates, parts}) {
    check_input(kept, 3, op, "states, gates, candidates and parts");
    check_same_type(grad, kept, op, "states, gates, candidates and parts");
    STD_TORCH_CHECK(kept.size(0) == grad.size(0) && kept.size(1) == grad.size(1), op,
                    ": states, gates, candidates and parts must have shape (B, T, ...)");
  }
  STD_TORCH_CHECK(states.size(2) == size && gates.size(2) == 2 * size &&
                      candidates.size(2) == size && parts.size(2) == size,
                  op, ": states, gates, candidates and parts must come from the forward");
}

// decode_f0

inline void check_decode_f0(const Tensor& salience, const std::vector<double>& thresholds,
                            int64_t method, int64_t bins_per_octave) {
  const char* op = "decode_f0";
  check_input(salience, 4, op, "salience");
  STD_TORCH_CHECK(salience.size(2) >= 1 && salience.size(2) <= kMostBins, op,
                  ": salience must have at least one bin");
  STD_TORCH_CHECK(salience.size(1) <= kMostVoices, op, ": more than ", kMostVoices, " voices");
  STD_TORCH_CHECK(int64_t(thresholds.size()) == salience.size(1), op,
                  ": thresholds must be one for each voice");
  STD_TORCH_CHECK(method >= kReconstruction && method <= kAmplitude, op, ": unknown method");
  STD_TORCH_CHECK(bins_per_octave >= 1, op, ": bins_per_octave must be positive");
}

// Of methods whose gradient is not the same for all bins.
inline void check_decode_f0_backward(const Tensor& grad, const Tensor& bin, const Tensor& slope,
                                     const Tensor& moved, int64_t bins, int64_t method) {
  const char* op = "decode_f0";
  check_input(grad, 3, op, "grad");
  check_same_device(grad, bin, op, "bin");
  STD_TORCH_CHECK(bin.scalar_type() == ScalarType::Int, op, ": bin must be int32");
  STD_TORCH_CHECK(method >= kSoft && method <= kThreshold, op, ": this method needs no kernel");
  STD_TORCH_CHECK(bins >= 1 && bins <= kMostBins, op, ": bins must be positive");
  check_same_type(grad, slope, op, "slope");
  check_same_type(grad, moved, op, "moved");
  for (const Tensor& saved : {bin, slope, moved}) {
    check_input(saved, 3, op, "bin, slope and moved");
    STD_TORCH_CHECK(saved.size(0) == grad.size(0) && saved.size(1) == grad.size(1), op,
                    ": bin, slope and moved must come from the forward");
  }
  STD_TORCH_CHECK(bin.size(2) == grad.size(2) && slope.size(2) == grad.size(2) &&
                      moved.size(2) == (method == kSoft ? grad.size(2) : 0),
                  op, ": bin, slope and moved must come from the forward");
}

// spectral_loss

// Spectra as real and imaginary parts of the bins of each item, in any one order.
inline void check_spectral_loss(const Tensor& estimate, const Tensor& target) {
  const char* op = "spectral_loss";
  check_input(estimate, 3, op, "estimate");
  check_input(target, 3, op, "target");
  check_same_type(estimate, target, op, "target");
  STD_TORCH_CHECK(estimate.size(2) == 2, op, ": spectra must have shape (B, M, 2)");
  for (int64_t axis = 0; axis < 3; ++axis)
    STD_TORCH_CHECK(target.size(axis) == estimate.size(axis), op,
                    ": both spectra must have the same shape");
}

// sinkhorn

// The cost may be one for all items.
inline void check_sinkhorn(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                           const Tensor& column) {
  const char* op = "sinkhorn";
  check_input(cost, 3, op, "cost");
  check_input(epsilon, 1, op, "epsilon");
  check_input(row, 2, op, "row_marginal");
  check_input(column, 2, op, "column_marginal");
  check_same_type(cost, epsilon, op, "epsilon");
  check_same_type(cost, row, op, "row_marginal");
  check_same_type(cost, column, op, "column_marginal");
  const int64_t items = epsilon.size(0);
  STD_TORCH_CHECK(cost.size(0) == items || cost.size(0) == 1, op,
                  ": cost and epsilon must have shapes (B, N, M) or (1, N, M), and (B,)");
  STD_TORCH_CHECK(row.size(0) == items && row.size(1) == cost.size(1), op,
                  ": row_marginal must have shape (B, N)");
  STD_TORCH_CHECK(column.size(0) == items && column.size(1) == cost.size(2), op,
                  ": column_marginal must have shape (B, M)");
}

// `initial` is empty for a cold start.
inline void check_sinkhorn(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                           const Tensor& column, const Tensor& initial, bool symmetric) {
  const char* op = "sinkhorn";
  check_sinkhorn(cost, epsilon, row, column);
  check_input(initial, 2, op, "initial_f");
  check_same_type(cost, initial, op, "initial_f");
  STD_TORCH_CHECK(
      (initial.size(0) == 0 || initial.size(0) == row.size(0)) && initial.size(1) == row.size(1),
      op, ": initial_f must have shape (B, N) or (0, N)");
  STD_TORCH_CHECK(!symmetric || cost.size(1) == cost.size(2), op,
                  ": a symmetric cost must be square");
}

inline void check_sinkhorn_backward(const Tensor& grad, const Tensor& cost, const Tensor& plan,
                                    const Tensor& f, const Tensor& g, const Tensor& epsilon) {
  const char* op = "sinkhorn";
  check_sinkhorn(cost, epsilon, f, g);
  for (const Tensor& matrix : {plan, grad}) {
    check_input(matrix, 3, op, "plan and grad");
    check_same_type(cost, matrix, op, "plan and grad");
    STD_TORCH_CHECK(matrix.size(0) == epsilon.size(0) && matrix.size(1) == cost.size(1) &&
                        matrix.size(2) == cost.size(2),
                    op, ": plan and grad must have shape (B, N, M)");
  }
}

inline void check_sinkhorn_unrolled(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                                    const Tensor& column) {
  check_sinkhorn(cost, epsilon, row, column);
  STD_TORCH_CHECK(cost.size(0) == epsilon.size(0), "sinkhorn: cost must have shape (B, N, M)");
}

inline void check_sinkhorn_unrolled_backward(const Tensor& grad, const Tensor& cost,
                                             const Tensor& epsilon, const Tensor& row,
                                             const Tensor& column, const Tensor& potentials) {
  const char* op = "sinkhorn";
  check_sinkhorn_unrolled(cost, epsilon, row, column);
  check_input(grad, 1, op, "grad");
  check_input(potentials, 3, op, "potentials");
  check_same_type(cost, grad, op, "grad");
  check_same_type(cost, potentials, op, "potentials");
  STD_TORCH_CHECK(grad.size(0) == cost.size(0) && potentials.size(0) == cost.size(0) &&
                      potentials.size(1) >= 1 && potentials.size(2) == cost.size(1) + cost.size(2),
                  op, ": grad and potentials must fit the cost");
}

}  // namespace rlsv_fast
