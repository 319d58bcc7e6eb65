// Fibers: stacks of their own on one OS thread, switched by hand. x86-64, System V.
#pragma once

#include <cstddef>

namespace cusim {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  ~Fiber();

  // The next switch to this fiber calls `entry` on a fresh stack; `entry` never returns.
  void start(void (*entry)());
  // Makes this fiber the one that the OS thread is in already.
  void adopt_thread();
  // Leaves `this`, which is running, for `to`; `for_good` if nobody will switch back.
  void switch_to(Fiber& to, bool for_good = false);

 private:
  static void enter();
  void arrive();

  static constexpr size_t kStack = 128 * 1024;
  void* pointer_ = nullptr;  // of the stack, while not running
  char* stack_ = nullptr;    // the memory, if it is ours
  void (*entry_)() = nullptr;
#if defined(CUSIM_ADDRESS)
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  size_t size_ = 0;
#elif defined(CUSIM_THREAD)
  void* context_ = nullptr;
  bool owned_ = false;
#endif
};

}  // namespace cusim
