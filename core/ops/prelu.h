// Leaky ReLU with learned slopes, forward and backward: the kernel of the active row, split over threads.
#pragma once

#include <cstdint>

#include "ops/layout.h"

namespace leakyrelu {

// y = x where x > 0, weight * x otherwise; one weight a channel, in one row. With `signs`, also whether x > 0, as
// packed bits.
void run_prelu_forward(const TensorLayout& data, Table weight, const char* x, char* y, std::uint8_t* signs);

// As PReLUBackward (table.h). Two tables, one after the other: weight and inverse. `signs` and `out` may be null.
void run_prelu_backward(const TensorLayout& data, Table tables, const char* grad, const char* given,
                        const std::uint8_t* signs, char* out, double* sums);

}  // namespace leakyrelu
