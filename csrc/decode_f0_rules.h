// What becomes of one voice's frame once its largest bin is known (formulas: cpu/decode_f0.cpp),
// shared by the CPU and CUDA kernels.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace rlsv_fast {

// Numbered as rlsv_fast/ops/decode_f0.py does.
enum F0Method : int64_t {
  kReconstruction,
  kReconstructionAsCoded,
  kSoft,
  kSte,
  kSigmoid,
  kThreshold,
  kAmplitude
};

constexpr int64_t kMostBins = (int64_t(1) << 31) - 1;
constexpr int64_t kMostVoices = 64;  // thresholds travel with a launch
constexpr int64_t kSoftReach = 4;    // bins that are averaged, to either side
constexpr double kSigmoidSteepness = 1000.0;
constexpr double kSteMost = 1000.0;  // of a gradient's magnitude

// Frequency of a bin, a fraction of one as well.
struct F0Grid {
  double lowest, per_octave;

  RLSV_HOST_DEVICE double operator[](double bin) const {
    return lowest * std::exp2(bin / per_octave);
  }
};

// What a frame decodes to, and its derivative: `slope` to every bin or to `bin`, or slope (n -
// moved) to the bins `bin` + n. No bin (-1) where that is zero.
template <typename T>
struct DecodedF0 {
  T f0, slope, moved;
  int32_t bin;
};

// The sum of all frequencies of the grid with the whole Hertz of a bin's.
template <typename Frequencies>
RLSV_HOST_DEVICE double shared_hertz(const Frequencies& frequencies, int64_t bins, int64_t bin) {
  const double whole = std::floor(frequencies[bin]);
  int64_t at = bin;
  while (at > 0 && std::floor(frequencies[at - 1]) == whole) --at;
  double sum = 0.0;
  for (; at < bins && std::floor(frequencies[at]) == whole; ++at) sum += frequencies[at];
  return sum;
}

// Bins of a frame lie `stride` apart from `column` on; `peak` is the largest, or NaN if any is.
// `frequencies[k]` is that of bin k on the grid.
template <typename T, typename Frequencies>
RLSV_HOST_DEVICE DecodedF0<T> decode_frame(F0Method method, const T* column, int64_t stride,
                                           int64_t bins, T peak, int64_t bin, double threshold,
                                           const F0Grid& grid, const Frequencies& frequencies) {
  const T none = T(method == kReconstructionAsCoded ? 1 : 0);
  if (peak != peak) return {peak, peak, T(0), int32_t(bin)};
  if (!(peak >= T(threshold)) || bin == 0) return {T(0), none, T(0), -1};
  double value = frequencies[bin], slope = 1.0, moved = 0.0;
  switch (method) {
    case kReconstruction:
      break;
    case kReconstructionAsCoded:
      value = shared_hertz(frequencies, bins, bin);
      break;
    case kSoft: {
      double total = 0.0, moment = 0.0;
      for (int64_t n = -kSoftReach; n <= kSoftReach; ++n) {
        if (bin + n < 0 || bin + n >= bins) continue;
        const double weight = double(column[(bin + n) * stride]);
        total += weight;
        moment += weight * double(n);
      }
      const double divisor = total > 0.0 ? total : 1.0;
      value *= std::exp2(moment / divisor / grid.per_octave);
      slope = value * 0.69314718055994530942 / (grid.per_octave * divisor);
      moved = total > 0.0 ? moment / total : 0.0;
      break;
    }
    case kSte:
      slope = value;
      if (!(peak > T(threshold))) value = 0.0;
      break;
    case kSigmoid: {
      const double gate = 1.0 / (1.0 + std::exp(kSigmoidSteepness * (threshold - double(peak))));
      slope = kSigmoidSteepness * gate * (1.0 - gate) * value;
      value *= gate;
      break;
    }
    case kThreshold:
      slope = value;
      value *= double(peak);
      break;
    case kAmplitude:
      slope = 0.0;
      break;
  }
  return {T(value), T(slope), T(moved), int32_t(bin)};
}

}  // namespace rlsv_fast
