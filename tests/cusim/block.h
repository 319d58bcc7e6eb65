// One block at work: its threads, its warps, and who goes on next.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "fiber.h"
#include "include/cuda_runtime.h"
#include "order.h"

namespace cusim {

constexpr unsigned kLanes = 32, kMostThreads = 1024;

struct Thread {
  Fiber fiber;
  unsigned index, warp, lane;
  bool at_barrier;
  Place where;  // the operation at which it waits
};

// A warp operation that lanes are coming to, or whose result some have not read yet.
struct OpenMeeting {
  Meeting result;
  unsigned mask, unread;
  bool over;
  WarpOp op;
  Place where;
  Order order;
};

struct Warp {
  unsigned lanes, ready, exited;  // masks
  // A lane is in one meeting at most, so there are never more than lanes.
  OpenMeeting meetings[kLanes];
  unsigned meetings_used;

  OpenMeeting* find(unsigned mask);  // that lanes of this mask are coming to, or none
  OpenMeeting& open(unsigned mask);
};

// Order in which threads are run: each choice is legal on a GPU, wrong kernels differ.
struct Schedule {
  enum class Kind { kForward, kReverse, kRandom } kind;
  uint64_t seed;
};
Schedule find_schedule();  // CUSIM_SCHED = fwd (default) | rev | rand:N

class Block {
 public:
  Block() : threads_(kMostThreads), warps_(kMostThreads / kLanes) {}

  // Runs `body` once per thread and returns when all have exited.
  void run(unsigned index, unsigned threads, size_t shared, const std::function<void()>& body);

  Votes barrier(bool vote, const Place& where);
  Meeting meet(unsigned mask, uint64_t value, WarpOp op, const Place& where);
  Thread& current() { return *current_; }

 private:
  static void thread_main();
  void exit_thread();
  void close_barrier();
  void close_meeting(Warp& warp, OpenMeeting& meeting);
  void wait(const Place& where);  // lets others run until someone has woken the current thread
  void wake(Warp& warp, unsigned lanes);
  Thread* choose();  // the next to run, or none
  unsigned random();
  void switch_to(Thread& thread);
  [[noreturn]] void report_deadlock();

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Fiber host_;
  Thread* current_ = nullptr;
  unsigned count_ = 0, alive_ = 0, warp_count_ = 0;
  const std::function<void()>* body_ = nullptr;
  Schedule schedule_{};
  uint64_t random_ = 0;

  unsigned at_barrier_ = 0, round_ = 0;
  Votes votes_{}, result_{};
  Place barrier_where_;
  Order barrier_order_[2], exits_;  // rounds alternate: late wakers still acquire the old one
};

// The block that this OS thread is running.
extern __thread Block* running;

}  // namespace cusim
