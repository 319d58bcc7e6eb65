// The second line of checks for the Sinkhorn operators, on any device.
#pragma once

#include "check.h"

namespace rlsv_fast {

inline void check_problem(const Tensor& cost, const Tensor& epsilon, const Tensor& row,
                          const Tensor& column) {
  const char* op = "sinkhorn";
  check_input(cost, 3, op, "cost");
  check_input(epsilon, 1, op, "epsilon");
  check_input(row, 2, op, "row_marginal");
  check_input(column, 2, op, "column_marginal");
  check_same_type(cost, epsilon, op, "epsilon");
  check_same_type(cost, row, op, "row_marginal");
  check_same_type(cost, column, op, "column_marginal");
  STD_TORCH_CHECK(epsilon.size(0) == cost.size(0), op, ": epsilon must have shape (B,)");
  STD_TORCH_CHECK(row.size(0) == cost.size(0) && row.size(1) == cost.size(1), op,
                  ": row_marginal must have shape (B, N)");
  STD_TORCH_CHECK(column.size(0) == cost.size(0) && column.size(1) == cost.size(2), op,
                  ": column_marginal must have shape (B, M)");
}

}  // namespace rlsv_fast
