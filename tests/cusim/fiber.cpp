// Compiled without -fsanitize, also for sanitized kernels: CUSIM_ADDRESS and CUSIM_THREAD tell the
// sanitizer's run time which stack is in use, and that a switch orders nothing.
#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(CUSIM_ADDRESS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(CUSIM_THREAD)
#include <sanitizer/tsan_interface.h>
#endif

// Saves what a function call must preserve on the running stack, its pointer in *from, and goes on
// where `to` was saved.
extern "C" void cusim_switch_stack(void** from, void* to);
asm(R"(
.text
.hidden cusim_switch_stack
.globl cusim_switch_stack
.type cusim_switch_stack, @function
cusim_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cusim_switch_stack, .-cusim_switch_stack
)");

namespace cusim {
namespace {

thread_local Fiber *left = nullptr, *entered = nullptr;  // of the switch under way

}  // namespace

Fiber::~Fiber() {
  if (stack_ != nullptr) munmap(stack_, kStack);
#if defined(CUSIM_THREAD)
  if (owned_) __tsan_destroy_fiber(context_);
#endif
}

void Fiber::start(void (*entry)()) {
  if (stack_ == nullptr) {
    void* memory =
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      perror("cusim: no memory for a thread's stack");
      abort();
    }
    stack_ = static_cast<char*>(memory);
#if !defined(CUSIM_THREAD)              // whose blocks all stay: too many mappings for the kernel
    mprotect(stack_, 4096, PROT_NONE);  // an overflow faults
#endif
  }
#if defined(CUSIM_ADDRESS)
  __asan_unpoison_memory_region(stack_ + 4096, kStack - 4096);  // what an earlier thread left
  bottom_ = stack_;
  size_ = kStack;
  fake_stack_ = nullptr;
#elif defined(CUSIM_THREAD)
  if (owned_) __tsan_destroy_fiber(context_);
  context_ = __tsan_create_fiber(0);
  owned_ = true;
#endif
  entry_ = entry;
  // As cusim_switch_stack leaves it: six registers, where to go on, then (for the alignment that
  // a function expects at its start) a return address, to nowhere.
  void** top = reinterpret_cast<void**>(stack_ + kStack);
  for (int below = 1; below <= 8; ++below) top[-below] = nullptr;
  top[-2] = reinterpret_cast<void*>(&Fiber::enter);
  pointer_ = top - 8;
}

void Fiber::adopt_thread() {
#if defined(CUSIM_THREAD)
  context_ = __tsan_get_current_fiber();
#endif
}

void Fiber::switch_to(Fiber& to, [[maybe_unused]] bool for_good) {
  left = this;
  entered = &to;
#if defined(CUSIM_ADDRESS)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack_, to.bottom_, to.size_);
#elif defined(CUSIM_THREAD)
  __tsan_switch_to_fiber(to.context_, __tsan_switch_to_fiber_no_sync);
#endif
  cusim_switch_stack(&pointer_, to.pointer_);
  arrive();
}

void Fiber::enter() {
  entered->arrive();
  entered->entry_();
}

void Fiber::arrive() {
#if defined(CUSIM_ADDRESS)
  __sanitizer_finish_switch_fiber(fake_stack_, &left->bottom_, &left->size_);
#endif
}

}  // namespace cusim
