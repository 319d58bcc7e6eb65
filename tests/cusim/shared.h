// Shared memory: everything thread_local in the module that holds the kernels.
#pragma once

#include <cstddef>

namespace cusim {

constexpr size_t kMostShared = 227 * 1024;  // what a block may ask for on an H200

// NaN bytes in all shared memory, static and dynamic; beyond `dynamic` bytes an access is an error
// under AddressSanitizer. Overwrites every other thread_local of this module.
void fill_shared(size_t dynamic);
void release_shared();

}  // namespace cusim
