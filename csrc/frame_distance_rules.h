// How a representation A (B, C, T) is normalised before the distances of its frames, on any device.
#pragma once

#include <cstdint>

namespace rlsv_fast {

// A as given; A / sum_c (A + 1/C) per frame; (A + 1/C) / sum_t (A + 1/C) per channel.
enum Normalize : int64_t { kNone = 0, kFeatures = 1, kTime = 2 };

}  // namespace rlsv_fast
