// Compiles a kernel file once per instruction set, in a namespace each, so that vectors have the
// width of the registers (after Highway's foreach_target.h). A kernel file is made like this:
//
//   #include <...>, "check.h"                        // compiled once
//   #define RLSV_KERNEL_FILE "cpu/<op>.cpp"
//   #include "each_simd.h"
//   #include "simd.h"                                // and other headers of kernels
//   namespace rlsv_fast::RLSV_PASS { kernels and their host functions }
//   #if defined(RLSV_LAST_PASS)
//   STABLE_TORCH_LIBRARY_IMPL(rlsv_fast, CPU, m) { RLSV_IMPL(m, "_<op>_forward", <op>_forward); }
//   #endif
//
// Headers of kernels are guarded per pass: RLSV_PASS_TOGGLE changes between defined and undefined.
#if !defined(RLSV_PASS)

#include "simd_level.h"

#define RLSV_INLINE __attribute__((always_inline)) inline
#define RLSV_BOX(function) TORCH_BOX(&Contiguous<&rlsv_fast::function>::call)

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RLSV_IMPL(library, name, function)              \
  switch (find_simd_level()) {                          \
    case SimdLevel::kV4:                                \
      library.impl(name, RLSV_BOX(v4::function));       \
      break;                                            \
    case SimdLevel::kV3:                                \
      library.impl(name, RLSV_BOX(v3::function));       \
      break;                                            \
    default:                                            \
      library.impl(name, RLSV_BOX(baseline::function)); \
  }

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
#define RLSV_PASS v4
#define RLSV_VECTOR_BYTES 64
#include RLSV_KERNEL_FILE
#undef RLSV_PASS
#undef RLSV_VECTOR_BYTES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define RLSV_PASS_TOGGLE
#define RLSV_PASS v3
#define RLSV_VECTOR_BYTES 32
#include RLSV_KERNEL_FILE
#undef RLSV_PASS_TOGGLE
#undef RLSV_PASS
#undef RLSV_VECTOR_BYTES
#pragma GCC pop_options
#else
#define RLSV_IMPL(library, name, function) library.impl(name, RLSV_BOX(baseline::function))
#endif

// SSE2, NEON, or whatever the compiler assumes.
#define RLSV_PASS baseline
#define RLSV_VECTOR_BYTES 16
#define RLSV_LAST_PASS

#endif
