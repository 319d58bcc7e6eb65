// pybind11 module _host: what is not a tensor operator. No torch header, no tensor.
#include <pybind11/pybind11.h>

#include "cuda/all_pole_grid.h"
#include "cuda/decode_f0_grid.h"
#include "cuda/frame_convolution_grid.h"
#include "cuda/gated_recurrence_grid.h"
#include "cuda/harmonic_bank_grid.h"
#include "simd_level.h"

namespace {

namespace py = pybind11;
using namespace rlsv_fast::cuda;

py::dict build_info() {
  py::dict info;
  info["torch"] = RLSV_FAST_TORCH_BUILD;
  info["cuda"] = RLSV_FAST_CUDA_BUILD;
  info["compiler"] = __VERSION__;
  info["simd"] = rlsv_fast::simd_name(rlsv_fast::kSimdLevel);
  return info;
}

// The launch arithmetic of the CUDA kernels (cuda/grid.h), for tests on any machine.
void define_grids(py::module_ module) {
  py::class_<Device>(module, "Device")
      .def(py::init([](int64_t processors, int64_t shared) { return Device{processors, shared}; }),
           py::arg("processors"), py::arg("shared"));
  py::class_<Grid>(module, "Grid")
      .def_readonly("blocks", &Grid::blocks)
      .def_readonly("threads", &Grid::threads)
      .def_readonly("shared", &Grid::shared);
  module.def("spread", &spread);
  module.def("slots", &slots);

  py::class_<Chunks>(module, "Chunks")
      .def_readonly("size", &Chunks::size)
      .def_readonly("count", &Chunks::count)
      .def_readonly("total", &Chunks::total);
  module.def("cut_rows", &cut_rows);
  module.def("tile_rows", &tile_rows);
  module.def("sums_grid", &sums_grid);

  module.def("modulated_cosines_forward_grid", &modulated_cosines_forward_grid);
  module.def("modulated_cosines_backward_grid", &modulated_cosines_backward_grid);
  module.def("modulated_cosines_chunk", &modulated_cosines_chunk);
  module.def("modulated_cosines_chunks", &modulated_cosines_chunks);
  module.def("modulated_cosines_partial_grid", &modulated_cosines_partial_grid);
  module.def("modulated_cosines_total_grid", &modulated_cosines_total_grid);

  module.def("frame_distance_stride", &frame_distance_stride);
  module.def("frame_distance_tiles", &frame_distance_tiles);
  module.def("frame_distance_tile", &frame_distance_tile);

  module.def("frames_grid", &frames_grid);
  module.def("frames_align", &frames_align);
  module.def("overlap_start", &overlap_start);
  module.def("overlap_blocks", &overlap_blocks);
  module.def("overlap_grid", &overlap_grid);

  py::class_<TransformGrid>(module, "TransformGrid")
      .def_readonly("groups", &TransformGrid::groups)
      .def_readonly("share", &TransformGrid::share)
      .def_readonly("stage", &TransformGrid::stage)
      .def_readonly("pieces", &TransformGrid::pieces)
      .def_readonly("table", &TransformGrid::table)
      .def_readonly("staged", &TransformGrid::staged)
      .def_readonly("grid", &TransformGrid::grid);
  py::enum_<Staged>(module, "Staged")
      .value("nothing", Staged::kNothing)
      .value("inputs", Staged::kInputs)
      .value("outputs", Staged::kOutputs);
  module.def("transform_grid", &transform_grid);
  py::class_<Spans>(module, "Spans")
      .def_readonly("first", &Spans::first)
      .def_readonly("count", &Spans::count)
      .def_readonly("length", &Spans::length)
      .def_readonly("depth", &Spans::depth);
  module.def("make_spans", &make_spans);

  module.def("all_pole_filter_grid", &all_pole_filter_grid);
  module.def("all_pole_order", &all_pole_order);
  module.def("all_pole_sum_grid", &all_pole_sum_grid);
  module.def("all_pole_lag_grid", &all_pole_lag_grid);
  module.def("lsf_to_lpc_grid", &lsf_to_lpc_grid);

  module.def("decode_f0_grid", &decode_f0_grid);
  module.def("gated_recurrence_forward_grid", &gated_recurrence_forward_grid);
  module.def("gated_recurrence_backward_grid", &gated_recurrence_backward_grid);

  py::class_<VariationShape>(module, "VariationShape")
      .def_readonly("tiles", &VariationShape::tiles)
      .def_readonly("pieces", &VariationShape::pieces)
      .def_readonly("share", &VariationShape::share)
      .def_readonly("blocks", &VariationShape::blocks)
      .def_readonly("partials", &VariationShape::partials);
  module.def("variation_shape", &variation_shape);
  module.def("variation_sums_grid", &variation_sums_grid);
  module.def("variation_backward_grid", &variation_backward_grid);

  module.def("bank_sample_grid", &bank_sample_grid);
  module.def("bank_piece_grid", &bank_piece_grid);
  module.def("bank_frame_grid", &bank_frame_grid);
  module.def("bank_item_grid", &bank_item_grid);

  py::class_<SinkhornGrid>(module, "SinkhornGrid")
      .def_readonly("grid", &SinkhornGrid::grid)
      .def_readonly("resident", &SinkhornGrid::resident)
      .def_readonly("workspace", &SinkhornGrid::workspace);
  module.def("sinkhorn_grid", &sinkhorn_grid);
  py::enum_<Residence>(module, "Residence")
      .value("matrix", Residence::kMatrix)
      .value("vectors", Residence::kVectors)
      .value("nothing", Residence::kNothing);
  py::class_<SinkhornGradientGrid>(module, "SinkhornGradientGrid")
      .def_readonly("residence", &SinkhornGradientGrid::residence)
      .def_readonly("descent", &SinkhornGradientGrid::descent)
      .def_readonly("elimination", &SinkhornGradientGrid::elimination)
      .def("workspace", &SinkhornGradientGrid::workspace);
  module.def("sinkhorn_gradient_grid", &sinkhorn_gradient_grid);
  module.def("sinkhorn_reverse_grid", &sinkhorn_reverse_grid);
}

}  // namespace

PYBIND11_MODULE(_host, module) {
  module.doc() = "Facts about the build and the machine; the launch arithmetic of CUDA kernels.";
  module.def("build_info", &build_info, "What this build holds and what the processor offers.");
  define_grids(module.def_submodule("grid", "How kernels are spread over a GPU: csrc/cuda/grid.h"));
}
