// The tensors of frame_convolution: checks, allocation, guard, stream, launch.
#include "../operands.h"
#include "frame_convolution.h"
#include "launch.h"

namespace rlsv_fast {
namespace {

Tensor frame_convolution_analysis(const Tensor& signal, int64_t side, int64_t points, int64_t terms,
                                  int64_t first, int64_t rows, int64_t dilation, int64_t tiles,
                                  int64_t advance, int64_t offset) {
  const Coefficients of{side, points, terms};
  check_frame_convolution(signal, of, first, rows, dilation, tiles, advance);
  const Launch launch(signal, "frame_convolution");
  const Windows shape{signal.size(0), signal.size(1), signal.size(2), terms,
                      dilation,       tiles,          advance,        offset};
  Tensor result = torch::stable::new_empty(signal, {rows, shape.sequences(), shape.channels});
  if (result.numel() == 0) return result;
  dispatch_floating(signal, "frame_convolution", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::frame_convolution_analysis(read<T>(signal), of, first, rows, shape,
                                                  write<T>(result), launch.stream()));
  });
  return result;
}

Tensor frame_convolution_synthesis(const Tensor& spectrum, const Tensor& addend, int64_t side,
                                   int64_t points, int64_t terms, int64_t first, int64_t batch,
                                   int64_t frames, int64_t dilation, int64_t tiles, int64_t advance,
                                   int64_t offset) {
  const Coefficients of{side, points, terms};
  const int64_t rows = spectrum.size(0);
  check_frame_convolution(spectrum, of, first, rows, dilation, tiles, advance);
  const Windows shape{batch, frames, spectrum.size(2), terms, dilation, tiles, advance, offset};
  check_frame_convolution_synthesis(spectrum, addend, shape);
  const Launch launch(spectrum, "frame_convolution");
  Tensor result = torch::stable::new_empty(spectrum, {batch, frames, shape.channels});
  if (result.numel() == 0) return result;
  dispatch_floating(spectrum, "frame_convolution", [&](auto zero) {
    using T = decltype(zero);
    launch.check(cuda::frame_convolution_synthesis(
        read<T>(spectrum), addend.numel() ? read<T>(addend) : nullptr, of, first, rows, shape,
        write<T>(result), launch.stream()));
  });
  return result;
}

}  // namespace
}  // namespace rlsv_fast

STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CUDA, m) {
  using namespace rlsv_fast;
  m.impl("_frame_convolution_analysis", TORCH_BOX(&Contiguous<&frame_convolution_analysis>::call));
  m.impl("_frame_convolution_synthesis",
         TORCH_BOX(&Contiguous<&frame_convolution_synthesis>::call));
}
