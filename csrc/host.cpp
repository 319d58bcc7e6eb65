// pybind11 module _host: what is not a tensor operator. No torch header, no tensor.
#include <pybind11/pybind11.h>

#include <string>

namespace {

// The best instruction set of this machine among those that the kernels are cloned for
// (csrc/simd.h); the dynamic linker makes the same choice when _C is loaded.
std::string simd_level() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4 (AVX-512)";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3 (AVX2, FMA)";
  return "x86-64 (SSE2)";
#else
  return "baseline";
#endif
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["torch"] = RLSV_FAST_TORCH_BUILD;
  info["cuda"] = RLSV_FAST_CUDA_BUILD;
  info["compiler"] = __VERSION__;
  info["simd"] = simd_level();
  return info;
}

}  // namespace

PYBIND11_MODULE(_host, module) {
  module.doc() = "Facts about the build and the machine.";
  module.def("build_info", &build_info, "What this build holds and what the processor offers.");
  module.def("simd_level", &simd_level, "The instruction set that the CPU kernels run with.");
}
