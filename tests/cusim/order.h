// What happens before what, for ThreadSanitizer; nothing in other builds.
#pragma once

#if defined(CUSIM_THREAD)
#include <sanitizer/tsan_interface.h>

#include <cstdlib>
#endif

namespace cusim {

// Whoever acquires comes after everyone who released since the last open(). A fresh piece of memory
// each time: the sanitizer remembers what was released under an address until it is freed.
class Order {
 public:
#if defined(CUSIM_THREAD)
  void open() { token_ = malloc(1); }
  void close() { free(token_); }
  void release() { __tsan_release(token_); }
  void acquire() { __tsan_acquire(token_); }

 private:
  void* token_ = nullptr;
#else
  void open() {}
  void close() {}
  void release() {}
  void acquire() {}
#endif
};

}  // namespace cusim
