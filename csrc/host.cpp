// pybind11 module _host: what is not a tensor operator. No torch header, no tensor.
#include <pybind11/pybind11.h>

#include "simd_level.h"

namespace {

pybind11::dict build_info() {
  pybind11::dict info;
  info["torch"] = RLSV_FAST_TORCH_BUILD;
  info["cuda"] = RLSV_FAST_CUDA_BUILD;
  info["compiler"] = __VERSION__;
  info["simd"] = rlsv_fast::simd_name(rlsv_fast::kSimdLevel);
  return info;
}

}  // namespace

PYBIND11_MODULE(_host, module) {
  module.doc() = "Facts about the build and the machine.";
  module.def("build_info", &build_info, "What this build holds and what the processor offers.");
}
