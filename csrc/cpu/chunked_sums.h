// Sums that have the same bits for any number of threads: each row is cut into chunks that depend
// on the shape alone, every chunk is summed by one thread, and the partial sums are added in order.
#pragma once

#include <algorithm>
#include <vector>

#include "check.h"

namespace rlsv_fast {

// Calls partial(row, begin, end, sums) for every chunk of [0, length) in every row; `sums` takes
// kSums numbers. Returns rows x kSums totals. `cost` is what parallel() wants to know of a chunk.
template <int64_t kSums, typename Partial>
std::vector<double> chunked_sums(int64_t rows, int64_t length, int64_t chunk, int64_t cost,
                                 const Partial& partial) {
  const int64_t chunks = (length + chunk - 1) / chunk;
  std::vector<double> partials(rows * chunks * kSums), totals(rows * kSums, 0.0);
  parallel(rows * chunks, cost, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % chunks * chunk;
      partial(i / chunks, first, std::min(first + chunk, length), &partials[i * kSums]);
    }
  });
  for (int64_t i = 0; i < rows * chunks; ++i)
    for (int64_t k = 0; k < kSums; ++k) totals[i / chunks * kSums + k] += partials[i * kSums + k];
  return totals;
}

}  // namespace rlsv_fast
