// Included before every csrc/cuda/*bindings*.cpp: registers the emulated kernels as those of the
// CPU, with a stream and a device guard that do nothing.
#pragma once

#define DeviceGuard TorchDeviceGuard
#include <torch/csrc/stable/accelerator.h>
#undef DeviceGuard
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

namespace torch::stable::accelerator {

class DeviceGuard {
 public:
  explicit DeviceGuard(int32_t) {}
};

}  // namespace torch::stable::accelerator

// Several files define it; any of them serves.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t,
                                                                                   void** stream) {
  *stream = nullptr;
  return 0;
}

// STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m)
#define CUDA CPU
