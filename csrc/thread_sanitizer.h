// What the thread sanitizer has to be told of torch's parallel loops, whose library is not
// instrumented. Included in builds with -fsanitize=thread alone.
#pragma once

#include <cstdint>

extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);

namespace rlsv_fast {

// A body of a loop: what the caller did happens before it, and it before what the caller does next.
template <typename Body>
class Forked {
 public:
  explicit Forked(const Body& body) : body_(body) { __tsan_release(&fork_); }
  ~Forked() { __tsan_acquire(&join_); }
  void operator()(int64_t begin, int64_t end) const {
    __tsan_acquire(&fork_);
    body_(begin, end);
    __tsan_release(&join_);
  }

 private:
  inline static char fork_, join_;  // only their addresses matter
  const Body& body_;
};

}  // namespace rlsv_fast
