// How the transforms of frame_convolution are spread over a GPU: as grid.h, in a file of their own.
#pragma once

#include "grid.h"

namespace rlsv_fast::cuda {

constexpr int64_t kTransformThreads = 128;
// Sums of a thread, for neighbouring outputs, and how many coefficients are taken at once.
constexpr int64_t kTransformSums = 20, kTransformStep = 4;
// Coefficients of that many inputs lie in shared memory together; where taps are innermost, they
// share it with the taps.
constexpr int64_t kTransformInputs = 128, kTapInputs = 32;
// Circles of up to so many points have a table of cosines and sines.
constexpr int64_t kTablePoints = 64;

inline int64_t divide_down(int64_t count, int64_t by) {
  return count / by - (count % by != 0 && (count % by < 0) != (by < 0) ? 1 : 0);
}

// Every output is a sum over `inputs`; a block takes one group of `share` outputs for
// kTransformThreads units (channels of a sequence) at a time, and the inputs in stages.
struct TransformGrid {
  int64_t groups, share, stage;   // stage: inputs
  int64_t inputs, units, pieces;  // pieces: of work, for all blocks together
  int64_t table, staged;          // table: points; staged: numbers of a unit in shared memory
  Grid grid;
};

// `staged` is what a unit keeps of taps: nothing, inputs or outputs.
enum class Staged : int64_t { kNothing = 0, kInputs = 1, kOutputs = 2 };

inline TransformGrid transform_grid(const Device& device, int64_t outputs, int64_t inputs,
                                    int64_t units, int64_t points, Staged staged, int64_t bytes) {
  TransformGrid result{};
  result.groups = std::max<int64_t>(divide_up(outputs, kTransformSums), 1);
  result.share = round_up(divide_up(outputs, result.groups), kTransformStep);
  result.inputs = inputs;
  result.units = units;
  result.table = points <= kTablePoints ? points : 0;
  // As many inputs as fit. Units lie odd numbers apart: a bank each.
  const bool taps = staged == Staged::kInputs;
  const int64_t a_unit = kTransformThreads * bytes, table = 16 * result.table;
  const int64_t room = std::min(device.shared, kUnasked) - table -
                       (staged == Staged::kNothing ? 0 : a_unit * (taps ? 1 : (result.share | 1)));
  const int64_t fit = std::max<int64_t>(room / (result.share * bytes + (taps ? a_unit : 0)), 1);
  result.stage = std::min({inputs, taps ? kTapInputs : kTransformInputs, fit});
  if (staged != Staged::kNothing)
    result.staged = (taps ? std::max(result.stage, result.share) : result.share) | 1;
  const int64_t of_group = divide_up(units, kTransformThreads);
  result.pieces = result.groups * of_group;
  // Whole multiples of the groups: a block keeps its own, and its coefficients.
  const int64_t waves = std::max<int64_t>(8 * device.processors / result.groups, 1);
  result.grid = {std::min(result.groups * std::min(of_group, waves), kMaxBlocks), kTransformThreads,
                 16 * result.table + result.stage * result.share * bytes +
                     result.staged * kTransformThreads * bytes};
  return result;
}

// The outputs of a synthesis lie d apart in each of d phases. They are counted from where the first
// window begins and cut into spans [length j, length (j + 1)), into which windows j, j - 1, ...,
// j - depth + 1 reach.
struct Spans {
  int64_t first, count, length, depth;
};

inline Spans make_spans(int64_t frames, int64_t terms, int64_t dilation, int64_t tiles,
                        int64_t advance, int64_t offset) {
  const int64_t length = std::max<int64_t>(tiles > 1 ? advance : terms, 1);
  const int64_t first = divide_down(divide_down(offset, dilation), length);
  const int64_t last = divide_down(divide_down(frames - 1 + offset, dilation), length);
  return {first, last - first + 1, length, divide_up(terms, length)};
}

}  // namespace rlsv_fast::cuda
