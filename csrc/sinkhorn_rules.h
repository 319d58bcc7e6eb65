// What counts as nothing, as safe, and as finished in Sinkhorn iterations, on any device.
#pragma once

#include <cstdint>

namespace rlsv_fast {

constexpr double kLog2E = 1.442695040888963407360;
constexpr double kLn2 = 0.6931471805599453094172;

template <typename T>
struct Limits;
template <>
struct Limits<float> {
  static constexpr float kLowest = -100.0f;              // exponents that count as no mass
  static constexpr float kSmall = 1e-9f, kLarge = 1e9f;  // scalings that need no absorption
  static constexpr float kFar = 1e30f;                   // cost of the padding
  static constexpr float kReach = 30.0f;                 // safe exponents of scalings, in reverse
  static constexpr double kNoise = 256 * 1.1920929e-7;   // errors that may be rounding
};
template <>
struct Limits<double> {
  static constexpr double kLowest = -900.0;
  static constexpr double kSmall = 1e-60, kLarge = 1e60;
  static constexpr double kFar = 1e200;
  static constexpr double kReach = 200.0;
  static constexpr double kNoise = 256 * 2.220446049250313e-16;
};

// Iterations without a new least error after which a path ends, and the most that the symmetric
// path is given: an error within kNoise of the mass counts as solved then.
constexpr int64_t kSymmetricPatience = 12, kSymmetricMost = 60, kGeneralPatience = 50;

}  // namespace rlsv_fast
