// The best instruction set of this machine among those that the CPU kernels are compiled for.
#pragma once

#include <cstdlib>
#include <cstring>

namespace rlsv_fast {

enum class SimdLevel { kBaseline, kV3, kV4 };

// RLSV_FAST_SIMD = baseline | v3 lowers the level, for tests.
inline SimdLevel find_simd_level() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  __builtin_cpu_init();
  const char* variable = std::getenv("RLSV_FAST_SIMD");
  const char* wanted = variable == nullptr ? "" : variable;
  if (std::strcmp(wanted, "baseline") == 0) return SimdLevel::kBaseline;
  if (std::strcmp(wanted, "v3") != 0 && __builtin_cpu_supports("x86-64-v4")) return SimdLevel::kV4;
  if (__builtin_cpu_supports("x86-64-v3")) return SimdLevel::kV3;
#endif
  return SimdLevel::kBaseline;
}

// Found once, when a library that uses it is loaded.
inline const SimdLevel kSimdLevel = find_simd_level();

inline const char* simd_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::kV4:
      return "x86-64-v4 (AVX-512)";
    case SimdLevel::kV3:
      return "x86-64-v3 (AVX2, FMA)";
    default:
      return "baseline";
  }
}

}  // namespace rlsv_fast
