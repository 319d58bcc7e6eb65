#include "shared.h"

#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(CUSIM_ADDRESS)
#include <sanitizer/asan_interface.h>
#endif

// What csrc/cuda/kernel.cuh declares.
alignas(1024) constinit thread_local unsigned char rlsv_fast_shared[cusim::kMostShared] = {};

namespace cusim {
namespace {

// This OS thread's copy of the module's thread_local memory.
struct Storage {
  char* begin = nullptr;
  size_t size = 0;
};

Storage find_storage() {
  Storage storage;
  dl_iterate_phdr(
      [](dl_phdr_info* module, size_t, void* found) {
        const char* shared = reinterpret_cast<char*>(rlsv_fast_shared);
        char* begin = static_cast<char*>(module->dlpi_tls_data);
        for (int i = 0; i < module->dlpi_phnum && begin != nullptr; ++i) {
          const size_t size = module->dlpi_phdr[i].p_memsz;
          if (module->dlpi_phdr[i].p_type != PT_TLS || shared < begin || shared >= begin + size)
            continue;
          *static_cast<Storage*>(found) = {begin, size};
          return 1;
        }
        return 0;
      },
      &storage);
  if (storage.begin == nullptr) {
    fprintf(stderr, "cusim: the thread_local memory of the kernels was not found\n");
    abort();
  }
  return storage;
}

}  // namespace

void fill_shared(size_t dynamic) {
  const Storage storage = find_storage();
  memset(storage.begin, 0xff, storage.size);
#if defined(CUSIM_ADDRESS)
  __asan_poison_memory_region(rlsv_fast_shared + dynamic, kMostShared - dynamic);
#else
  (void)dynamic;
#endif
}

void release_shared() {
#if defined(CUSIM_ADDRESS)
  __asan_unpoison_memory_region(rlsv_fast_shared, kMostShared);
#endif
}

}  // namespace cusim
