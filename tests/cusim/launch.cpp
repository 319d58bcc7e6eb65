#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

#include "block.h"
#include "shared.h"

namespace cusim {
namespace {

std::mutex guard;
std::map<const void*, int64_t> allowed;  // shared memory that was asked for by name

int64_t setting(const char* name, int64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : strtoll(text, nullptr, 10);
}

[[noreturn]] void refuse(const char* what, int64_t value, const char* kernel) {
  fprintf(stderr, "cusim: launch of %s: %s, got %lld\n", kernel, what,
          static_cast<long long>(value));
  fflush(stderr);
  abort();
}

}  // namespace

int64_t processors() { return setting("CUSIM_PROCESSORS", 132); }
int64_t most_shared() { return setting("CUSIM_SHARED", kMostShared); }
unsigned most_blocks(unsigned blocks) {
  return unsigned(std::min<int64_t>(blocks, setting("CUSIM_BLOCKS", blocks)));
}

bool allow_shared(const void* kernel, int64_t bytes) {
  if (bytes > most_shared()) return false;
  const std::lock_guard<std::mutex> lock(guard);
  allowed[kernel] = bytes;
  return true;
}

void check_launch(const Extent& extent, size_t shared, const void* kernel, const char* name) {
  const int64_t blocks = extent.blocks, threads = extent.threads;
  if (blocks < 1 || blocks > (int64_t(1) << 31) - 1)
    refuse("blocks must be 1 to 2^31 - 1", blocks, name);
  if (threads < 1 || threads > kMostThreads) refuse("threads must be 1 to 1024", threads, name);
  if (extent.blocks_y * extent.blocks_z * extent.threads_y * extent.threads_z != 1)
    refuse("only x is used, the product of the others must be 1",
           int64_t(extent.blocks_y) * extent.blocks_z * extent.threads_y * extent.threads_z, name);
  int64_t limit = 48 * 1024;
  {
    const std::lock_guard<std::mutex> lock(guard);
    const auto found = allowed.find(kernel);
    if (found != allowed.end()) limit = std::max(limit, found->second);
  }
  if (int64_t(shared) > std::min(limit, most_shared()))
    refuse("more shared memory than allowed by cudaFuncSetAttribute", int64_t(shared), name);
}

#if defined(CUSIM_THREAD)

// Every block on an OS thread of its own, so that nothing orders the blocks but the launch itself;
// one at a time, and all of them stay until the last has run: memory that is used again would carry
// what the sanitizer knows of the earlier block.
void run_grid(unsigned blocks, unsigned threads, size_t shared, const std::function<void()>& body) {
  std::atomic<unsigned> turn{0};
  std::vector<std::thread> workers;
  for (unsigned index = 0; index < blocks; ++index)
    workers.emplace_back([&, index] {
      while (turn != index) std::this_thread::yield();
      Block block;
      gridDim = dim3(blocks);
      block.run(index, threads, shared, body);
      ++turn;
      while (turn != blocks) std::this_thread::yield();
    });
  for (std::thread& worker : workers) worker.join();
}

#else

void run_grid(unsigned blocks, unsigned threads, size_t shared, const std::function<void()>& body) {
  static std::vector<std::unique_ptr<Block> > resting;  // a block keeps the stacks of its threads
  std::unique_ptr<Block> block;
  {
    const std::lock_guard<std::mutex> lock(guard);
    if (!resting.empty()) {
      block = std::move(resting.back());
      resting.pop_back();
    }
  }
  if (block == nullptr) block = std::make_unique<Block>();
  gridDim = dim3(blocks);
  for (unsigned index = 0; index < blocks; ++index) block->run(index, threads, shared, body);
  const std::lock_guard<std::mutex> lock(guard);
  resting.push_back(std::move(block));
}

#endif

}  // namespace cusim
