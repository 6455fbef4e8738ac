// The battery of the normalization and census kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel.h"
#include "reader.h"

namespace battery {

using Doubles = std::vector<double>;

// What is expected, and how far a result may be from it.
struct Within {
  Doubles values, errors;
};

enum Kind : std::int64_t { norm, census };

// A normalization or a census, with what the oracle says of it.
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

  std::ptrdiff_t size() const { return samples * channels * positions; }
};

std::vector<Pass> read_passes(const char* path);

// Runs all of them on the active row of kernels, on one thread and on many. Returns the number of comparisons; ends the
// program at the first that fails.
long check_passes(const std::vector<Pass>& passes, const char* isa);

}  // namespace battery
