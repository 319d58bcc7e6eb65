// What every CUDA binding needs and nothing else has: the current stream, the device guard, the
// launch check. Included by bindings only; kernels see a plain stream.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include "../check.h"

// Weak, so that this file also loads under a CPU-only torch.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace rlsv_fast {

// The function lives in libtorch_cuda, which Python loads without adding it to the scope in which
// symbols are looked up: it is asked for by name. Null under a CPU-only torch.
inline auto find_stream_function() {
  using Function = decltype(&aoti_torch_get_current_cuda_stream);
  if (aoti_torch_get_current_cuda_stream != nullptr) return &aoti_torch_get_current_cuda_stream;
  void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  void* function = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
  return reinterpret_cast<Function>(function);
}

// Selects the tensor's device for its lifetime and knows torch's current stream there.
class Launch {
 public:
  Launch(const Tensor& tensor, const char* op) : op_(op), guard_(tensor.get_device_index()) {
    static const auto current_stream = find_stream_function();
    STD_TORCH_CHECK(current_stream != nullptr, op, ": this torch has no CUDA streams");
    void* stream = nullptr;
    STD_TORCH_CHECK(current_stream(tensor.get_device_index(), &stream) == 0, op,
                    ": no current CUDA stream");
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }
  void check(cudaError_t error) const {
    STD_TORCH_CHECK(error == cudaSuccess, op_, ": ", cudaGetErrorString(error));
  }

 private:
  const char* op_;
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace rlsv_fast
