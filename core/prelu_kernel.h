// What the backward pass of a Leaky ReLU with learned slopes is: its signature.
//
// Over `rows` rows of `channels` numbers each, in contiguous memory, on one thread, as in norm_kernel.h. What is given
// is the output y = x where x > 0, weight * x elsewhere, with inverse = 1 / weight; or the input itself, with
// inverse = 1. Then
//
//   out: grad where x > 0, weight * grad elsewhere          sum: of grad * x over x <= 0
//
// Whether x > 0 is the sign of what is given, or, where a weight may be negative and the sign of y says nothing, bit
// first_bit + i of `signs`. weight and inverse hold one number a channel in the compute type (leaky_relu.h). Sums are
// taken in double over blocks that are summed in the compute type. `out` may be null.
#pragma once

#include <cstddef>
#include <cstdint>

namespace leakyrelu {

using PReLUBackward = void (*)(const void* grad, const void* given, const std::uint8_t* signs, std::ptrdiff_t first_bit,
                               const void* weight, const void* inverse, void* out, std::ptrdiff_t rows,
                               std::ptrdiff_t channels, double* sum);

}  // namespace leakyrelu
