// The schema of every operator and nothing else: the table of contents of the kernels.
// Raw operators are functional, accept float32 and float64 contiguous tensors, and are wrapped
// (validated, made differentiable) by rlsv_fast/ops/<op>.py. Formulas: csrc/cpu/<op>.cpp.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(rlsv_fast, m) {
  m.def(
      "_modulated_cosines_forward(Tensor frequency, Tensor phase, Tensor modulator, Tensor order, "
      "int power) -> Tensor");
  m.def(
      "_modulated_cosines_backward(Tensor grad, Tensor frequency, Tensor phase, Tensor modulator, "
      "Tensor order, int power) -> (Tensor, Tensor, Tensor)");

  m.def("_frame_distance_forward(Tensor representation, int p, int normalize) -> Tensor");
  m.def(
      "_frame_distance_backward(Tensor grad, Tensor representation, Tensor distance, int p, "
      "int normalize) -> Tensor");

  m.def("_total_variation_forward(Tensor representation, int norm) -> (Tensor, Tensor)");
  m.def(
      "_total_variation_backward(Tensor grad, Tensor representation, Tensor norms, int norm) "
      "-> Tensor");

  m.def("_frames(Tensor signal, int kernel_size, int hop, int count, int offset) -> Tensor");
  m.def("_overlap_add(Tensor frames, int hop, int length, int offset) -> Tensor");

  m.def(
      "_frame_convolution_analysis(Tensor signal, int side, int points, int terms, int first, "
      "int rows, int dilation, int tiles, int advance, int offset) -> Tensor");
  m.def(
      "_frame_convolution_synthesis(Tensor spectrum, Tensor addend, int side, int points, "
      "int terms, int first, int batch, int frames, int dilation, int tiles, int advance, "
      "int offset) -> Tensor");

  m.def("_lsf_to_lpc_forward(Tensor lsf) -> Tensor");
  m.def("_lsf_to_lpc_backward(Tensor grad, Tensor lsf) -> Tensor");

  m.def(
      "_all_pole_forward(Tensor signal, Tensor coefficients, int frame, int hop) "
      "-> (Tensor, Tensor)");
  m.def(
      "_all_pole_backward(Tensor grad, Tensor coefficients, Tensor filtered, int hop) "
      "-> (Tensor, Tensor)");

  m.def("_neg_snr_forward(Tensor estimate, Tensor target, bool batch) -> (Tensor, Tensor)");
  m.def(
      "_neg_snr_backward(Tensor grad, Tensor estimate, Tensor target, Tensor energies, bool batch, "
      "bool with_target) -> (Tensor, Tensor)");

  m.def("_si_sdr_forward(Tensor estimate, Tensor target) -> (Tensor, Tensor)");
  m.def(
      "_si_sdr_backward(Tensor grad, Tensor estimate, Tensor target, Tensor moments, "
      "bool with_target) -> (Tensor, Tensor)");

  m.def(
      "_harmonic_bank_forward(Tensor f0, Tensor amplitude, Tensor initial_phase, int hop, "
      "int sample_rate, int harmonics) -> (Tensor, Tensor)");
  m.def(
      "_harmonic_bank_backward(Tensor grad, Tensor grad_phase, Tensor f0, Tensor amplitude, "
      "Tensor initial_phase, int hop, int sample_rate, int harmonics) "
      "-> (Tensor, Tensor, Tensor)");

  m.def(
      "_gated_recurrence_forward(Tensor projected, Tensor weight, Tensor bias, bool keep) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "_gated_recurrence_backward(Tensor grad, Tensor weight, Tensor states, Tensor gates, "
      "Tensor candidates, Tensor parts) -> (Tensor, Tensor)");

  m.def(
      "_decode_f0_forward(Tensor salience, float[] thresholds, int method, float lowest, "
      "int bins_per_octave) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "_decode_f0_backward(Tensor grad, Tensor bin, Tensor slope, Tensor moved, int bins, "
      "int method) -> Tensor");

  m.def(
      "_spectral_loss_forward(Tensor estimate, Tensor target, float magnitude_weight, "
      "float log_magnitude_weight, bool want_estimate, bool want_target) "
      "-> (Tensor, Tensor, Tensor)");

  m.def(
      "_sinkhorn_forward(Tensor cost, Tensor epsilon, Tensor row, Tensor column, Tensor initial, "
      "int max_iterations, float tolerance, bool symmetric, bool want_plan) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "_sinkhorn_backward(Tensor grad, Tensor cost, Tensor plan, Tensor f, Tensor g, "
      "Tensor epsilon, bool symmetric) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "_sinkhorn_distance(Tensor cost, Tensor epsilon, Tensor row, Tensor column, Tensor initial, "
      "int max_iterations, float tolerance, bool symmetric) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "_sinkhorn_unrolled_forward(Tensor cost, Tensor epsilon, Tensor row, Tensor column, "
      "int iterations) -> (Tensor, Tensor, Tensor)");
  m.def(
      "_sinkhorn_unrolled_backward(Tensor grad, Tensor cost, Tensor epsilon, Tensor row, "
      "Tensor column, Tensor potentials) -> (Tensor, Tensor, Tensor, Tensor)");

  m.def(
      "_sinkhorn_loss_forward(Tensor representation, float epsilon, int p, int normalize, "
      "bool mean, int max_iterations, float tolerance, bool want_gradient) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "_sinkhorn_loss_backward(Tensor grad, Tensor representation, Tensor distance, "
      "Tensor grad_cost, int p, int normalize) -> Tensor");
}

// All the Python there is in _C: importing it runs the registrations above.
PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
