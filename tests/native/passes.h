// The battery of the kernels of normalization, the census and learned slopes.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "reader.h"

namespace battery {

using Doubles = std::vector<double>;

// Expected values, and the largest allowed error of each.
struct Within {
  Doubles values, errors;
};

// Both passes with the same signs: those of x, or bits that are independent of x.
struct Learned {
  Bytes signs, out;
  Within sums;
};

enum Kind : std::int64_t { norm, census, prelu };

// A normalization, a census or a Leaky ReLU with learned slopes, with the results of the oracle.
struct Pass {
  Kind kind;
  leakyrelu::DType dtype;
  std::ptrdiff_t samples, channels, positions;
  bool channels_last;
  Bytes x;

  // Of a normalization.
  std::ptrdiff_t rows;
  double alpha;
  Bytes grad, y;
  Doubles tables;
  Within mean, squares, activated, sum_h, sum_hu, combined;

  // Of a census.
  double low, ceiling;
  std::vector<std::int64_t> counts;
  Within moments;

  // Of learned slopes, besides grad and tables (weight and inverse).
  Bytes forward;
  Learned own, other;

  std::ptrdiff_t size() const { return samples * channels * positions; }
};

std::vector<Pass> read_passes(const char* path);

// Runs all of them on the active row of kernels, on one thread and on many. Returns the number of comparisons; ends the
// program at the first that fails.
long check_passes(const std::vector<Pass>& passes, const char* isa);

}  // namespace battery
