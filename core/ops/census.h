// The census of an array: for each unit, counts and moments of the inputs of an activation.
#pragma once

#include "kernels/table.h"
#include "ops/layout.h"

namespace leakyrelu {

// One row each, of one number a unit.
constexpr int census_counts = 5;   // above, nan, saturated, middle, rest (table.h)
constexpr int census_moments = 4;  // mean and sum of squared deviations of the middle, then of the rest

// Adds contiguous x, whose units lie as the channels of `layout`, to counts and moments.
void run_census(DType dtype, const char* x, const AlphaLayout& layout, double low, double ceiling, std::int64_t* counts,
                double* moments);

}  // namespace leakyrelu
