#include "block.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "shared.h"

__thread uint3 threadIdx, blockIdx;
__thread dim3 blockDim, gridDim;

namespace cusim {

__thread Block* running;

namespace {

unsigned lowest(unsigned lanes) { return unsigned(__builtin_ctz(lanes)); }
bool same(const Place& one, const Place& other) {
  return one.line() == other.line() && strcmp(one.file_name(), other.file_name()) == 0;
}
unsigned highest(unsigned lanes) { return 31 - unsigned(__builtin_clz(lanes)); }

}  // namespace

void fail(const char* what, const Place& where, const Place* others) {
  fprintf(stderr, "cusim: %s\n  at %s:%u, block %u, thread %u\n", what, where.file_name(),
          where.line(), blockIdx.x, threadIdx.x);
  if (others != nullptr)
    fprintf(stderr, "  others at %s:%u\n", others->file_name(), others->line());
  fflush(stderr);
  abort();
}

Schedule find_schedule() {
  const char* text = getenv("CUSIM_SCHED");
  if (text == nullptr || strcmp(text, "fwd") == 0) return {Schedule::Kind::kForward, 0};
  if (strcmp(text, "rev") == 0) return {Schedule::Kind::kReverse, 0};
  if (strncmp(text, "rand:", 5) == 0)
    return {Schedule::Kind::kRandom, strtoull(text + 5, nullptr, 10)};
  fprintf(stderr, "cusim: CUSIM_SCHED must be fwd, rev or rand:N, got '%s'\n", text);
  abort();
}

void Block::run(unsigned index, unsigned threads, size_t shared,
                const std::function<void()>& body) {
  const dim3 grid = gridDim;
  fill_shared(shared);  // and with it everything thread_local here
  running = this;
  gridDim = grid;
  blockDim = dim3(threads);
  blockIdx = {index, 0, 0};
  schedule_ = find_schedule();
  random_ = schedule_.seed * 0x9e3779b97f4a7c15u + index + 1;
  body_ = &body;
  count_ = alive_ = threads;
  warp_count_ = (threads + kLanes - 1) / kLanes;
  at_barrier_ = round_ = 0;
  for (unsigned w = 0; w < warp_count_; ++w) {
    Warp& warp = warps_[w];
    const unsigned lanes = std::min(threads - w * kLanes, kLanes);
    warp.lanes = warp.ready = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    warp.exited = ~warp.lanes;  // lanes that a partial warp lacks
    warp.meetings_used = 0;
  }
  host_.adopt_thread();
  barrier_order_[0].open();
  barrier_order_[1].open();
  exits_.open();
  for (unsigned t = 0; t < threads; ++t) {
    Thread& thread = threads_[t];
    thread.index = t;
    thread.warp = t / kLanes;
    thread.lane = t % kLanes;
    thread.at_barrier = false;
    thread.fiber.start(&Block::thread_main);
  }
  current_ = &threads_[schedule_.kind == Schedule::Kind::kReverse ? threads - 1 : 0];
  current_ = choose();
  threadIdx = {current_->index, 0, 0};
  host_.switch_to(current_->fiber);
  exits_.acquire();
  exits_.close();
  barrier_order_[0].close();
  barrier_order_[1].close();
  release_shared();
}

void Block::thread_main() {
  (*running->body_)();
  running->exit_thread();
}

void Block::exit_thread() {
  Thread& me = *current_;
  Warp& warp = warps_[me.warp];
  warp.ready &= ~(1u << me.lane);
  warp.exited |= 1u << me.lane;
  --alive_;
  for (unsigned i = 0; i < warp.meetings_used; ++i) {
    OpenMeeting& meeting = warp.meetings[i];
    if (meeting.mask != 0 && !meeting.over &&
        ((meeting.result.came | warp.exited) & meeting.mask) == meeting.mask)
      close_meeting(warp, meeting);
  }
  if (alive_ != 0 && at_barrier_ == alive_) close_barrier();
  exits_.release();
  if (alive_ == 0) me.fiber.switch_to(host_, true);
  Thread* next = choose();
  if (next == nullptr) report_deadlock();
  current_ = next;
  threadIdx = {next->index, 0, 0};
  me.fiber.switch_to(next->fiber, true);
}

// Barriers

Votes Block::barrier(bool vote, const Place& where) {
  Thread& me = *current_;
  if (at_barrier_ == 0) {
    votes_ = {0, 1, 0};
    barrier_where_ = where;
  } else if (!same(barrier_where_, where)) {
    fail("divergent barrier: threads of a block meet at different ones", where, &barrier_where_);
  }
  votes_.any |= vote;
  votes_.all &= vote;
  votes_.count += vote;
  const unsigned round = round_;
  Order& order = barrier_order_[round % 2];
  order.release();
  if (++at_barrier_ == alive_) {
    close_barrier();
  } else {
    me.at_barrier = true;
    while (round_ == round) wait(where);
  }
  order.acquire();
  return result_;
}

void Block::close_barrier() {
  result_ = votes_;
  at_barrier_ = 0;
  ++round_;
  for (unsigned w = 0; w < warp_count_; ++w) {
    unsigned lanes = 0;
    for (unsigned t = w * kLanes; t < std::min(count_, (w + 1) * kLanes); ++t) {
      lanes |= unsigned(threads_[t].at_barrier) << threads_[t].lane;
      threads_[t].at_barrier = false;
    }
    wake(warps_[w], lanes);
  }
}

// Warp operations

OpenMeeting* Warp::find(unsigned mask) {
  for (unsigned i = 0; i < meetings_used; ++i)
    if (meetings[i].mask == mask && !meetings[i].over) return &meetings[i];
  return nullptr;
}

OpenMeeting& Warp::open(unsigned mask) {
  unsigned i = 0;
  while (i < meetings_used && meetings[i].mask != 0) ++i;
  if (i == meetings_used) ++meetings_used;
  OpenMeeting& meeting = meetings[i];
  meeting.mask = mask;
  meeting.result.came = 0;
  meeting.over = false;
  meeting.order.open();
  return meeting;
}

Meeting Block::meet(unsigned mask, uint64_t value, WarpOp op, const Place& where) {
  Thread& me = *current_;
  Warp& warp = warps_[me.warp];
  const unsigned bit = 1u << me.lane;
  if ((mask & bit) == 0) fail("a lane calls a warp operation outside its own mask", where);
  mask &= warp.lanes;
  OpenMeeting* meeting = warp.find(mask);
  if (meeting == nullptr) {
    meeting = &warp.open(mask);
    meeting->op = op;
    meeting->where = where;
  } else if (meeting->op != op || !same(meeting->where, where)) {
    fail("lanes of one mask meet at different operations", where, &meeting->where);
  }
  meeting->order.release();
  meeting->result.values[me.lane] = value;
  meeting->result.came |= bit;
  if (((meeting->result.came | warp.exited) & mask) == mask) {
    close_meeting(warp, *meeting);
  } else {
    while (!meeting->over) wait(where);
  }
  meeting->order.acquire();
  const Meeting result = meeting->result;
  meeting->unread &= ~bit;
  if (meeting->unread == 0) {
    meeting->order.close();
    meeting->mask = 0;  // free for the next
  }
  return result;
}

void Block::close_meeting(Warp& warp, OpenMeeting& meeting) {
  meeting.over = true;
  meeting.unread = meeting.result.came;
  wake(warp, meeting.result.came);
}

// Scheduling

void Block::wake(Warp& warp, unsigned lanes) { warp.ready |= lanes & ~warp.exited; }

void Block::wait(const Place& where) {
  Thread& me = *current_;
  me.where = where;
  warps_[me.warp].ready &= ~(1u << me.lane);
  Thread* next = choose();
  if (next == nullptr) report_deadlock();
  if (next == &me) return;
  current_ = next;
  threadIdx = {next->index, 0, 0};
  me.fiber.switch_to(next->fiber);
}

unsigned Block::random() {
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  return unsigned(random_ >> 33);
}

// Forward goes through lanes and warps upwards from the current thread, reverse takes the highest
// lane first and warps downwards.
Thread* Block::choose() {
  const bool reverse = schedule_.kind == Schedule::Kind::kReverse;
  const bool shuffled = schedule_.kind == Schedule::Kind::kRandom;
  const unsigned first = shuffled ? random() % warp_count_ : current_->warp;
  for (unsigned step = 0; step < warp_count_; ++step) {
    const unsigned w = (reverse ? first + warp_count_ - step : first + step) % warp_count_;
    const unsigned ready = warps_[w].ready;
    if (ready == 0) continue;
    unsigned lane;
    if (reverse) {
      lane = highest(ready);
    } else if (shuffled) {
      const unsigned turn = random() % kLanes;
      const unsigned later = ready & (~0u << turn);
      lane = lowest(later != 0 ? later : ready);
    } else {
      const unsigned done = w == current_->warp ? (2u << current_->lane) - 1 : 0;  // 2 << 31 is 0
      const unsigned later = ready & ~done;
      lane = lowest(later != 0 ? later : ready);
    }
    return &threads_[w * kLanes + lane];
  }
  return nullptr;
}

void Block::report_deadlock() {
  fprintf(stderr, "cusim: deadlock in block %u: %u of %u threads are at a barrier; some wait at\n",
          blockIdx.x, at_barrier_, alive_);
  unsigned shown = 0;
  for (unsigned t = 0; t < count_ && shown < 8; ++t) {
    const Thread& thread = threads_[t];
    if ((warps_[thread.warp].exited >> thread.lane & 1) != 0) continue;
    fprintf(stderr, "  thread %u: %s:%u\n", t, thread.where.file_name(), thread.where.line());
    ++shown;
  }
  fflush(stderr);
  abort();
}

// The calls of a kernel

Votes block_barrier(bool vote, const Place& where) { return running->barrier(vote, where); }

Meeting warp_meeting(unsigned mask, uint64_t value, WarpOp op, const Place& where) {
  return running->meet(mask, value, op, where);
}

unsigned ballot(unsigned mask, bool vote, const Place& where) {
  const Meeting meeting = warp_meeting(mask, vote, WarpOp::kBallot, where);
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if ((meeting.came >> lane & 1) != 0 && meeting.values[lane] != 0) lanes |= 1u << lane;
  return lanes;
}

int current_lane() { return int(running->current().lane); }

int source_lane(int lane, int argument, int width, WarpOp op, const Place& where) {
  if (width <= 0 || width > int(kLanes) || (width & (width - 1)) != 0)
    fail("the width of a shuffle must be a power of two up to 32", where);
  const int segment = lane & ~(width - 1);
  switch (op) {
    case WarpOp::kShuffle:
      return segment + (argument & (width - 1));
    case WarpOp::kShuffleXor:  // may read from an earlier segment
      return (lane ^ argument) < segment + width ? lane ^ argument : lane;
    case WarpOp::kShuffleUp:
      return lane - argument >= segment ? lane - argument : lane;
    default:
      return lane + argument < segment + width ? lane + argument : lane;
  }
}

}  // namespace cusim
