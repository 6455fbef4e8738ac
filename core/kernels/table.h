// The kernel table: the signatures of the kernels, and one row for each instruction set.
//
// A kernel runs the definition (leaky_relu.h) over one run of memory, on one thread. It knows nothing of Python.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace leakyrelu {

// As a NumPy inner loop: the inputs and the output in this order, strides in bytes, n elements.
//   forward, inverse: (x, alpha) -> y          backward: (grad, x, alpha) -> out
// alpha has the compute type: float for the 16-bit types, the type itself for the others.
using Loop = void (*)(char* const* data, const std::ptrdiff_t* stride, std::ptrdiff_t n);

// Contiguous runs with packed signs: the sign of element i is bit (first_bit + i) counted from the low bit of signs[0].
// The bits of other elements in the first and last byte are kept. alpha_step is 0 for one alpha, 1 for one an element.
using PackLoop = void (*)(const void* x, const void* alpha, std::ptrdiff_t alpha_step, void* y, std::uint8_t* signs,
                          std::ptrdiff_t first_bit, std::ptrdiff_t n);
using UnpackLoop = void (*)(const void* grad, const std::uint8_t* signs, std::ptrdiff_t first_bit, const void* alpha,
                            std::ptrdiff_t alpha_step, void* out, std::ptrdiff_t n);

// The sums of a census for a few adjacent columns. Above is x > low, infinity included; middle is low < x < ceiling,
// rest is x <= low, both finite. Sums are of the distance from a shift near which the values lie, so that a large mean
// costs the squares no digits.
constexpr int census_columns = 8;
struct CensusSums {
  std::int64_t above[census_columns] = {}, saturated[census_columns] = {};
  double middle_sum[census_columns] = {}, middle_squares[census_columns] = {};
  double rest_sum[census_columns] = {}, rest_squares[census_columns] = {};
};
struct CensusExceptions {
  std::int64_t nan[census_columns] = {}, middle[census_columns] = {}, rest[census_columns] = {};
};
struct CensusRule {
  double low, ceiling;
  double middle_shift[census_columns], rest_shift[census_columns];
};

// In elements: how far rows lie apart, and the runs that they make up.
struct CensusWalk {
  std::ptrdiff_t step, rows, run_step = 0, runs = 1;
};

// Adds `columns` (up to census_columns) neighbors of each row to the sums. Without `exceptions` every value is assumed
// to be finite: middle is above less saturated, rest is what remains. Where a value is not finite, one of the sums is
// not finite either (except for +infinity at or above a ceiling, which is saturated).
using CensusLoop = void (*)(const void* x, const CensusWalk& walk, int columns, const CensusRule& rule,
                            CensusSums& sums, CensusExceptions* exceptions);

// The four passes of a normalization followed by a Leaky ReLU.
//
// A pass runs over `rows` rows of `channels` numbers each, in contiguous memory, on one thread. Data with channels last
// are such rows. Where the channels come first, a run of one channel is rows of one channel. Tables hold one number a
// channel in the compute type (number.h). With f the Leaky ReLU of slope alpha > 0,
//
//   moments:  mean, and sum of the squared distances from it, of x
//   activate: y = f((x - mean) * scale + bias)
//   sums:     of h = grad * f'(y), and of h * u, with u = f^-1(y) - bias
//   combine:  p * h + q * u + r
//
// Sums are taken in double over blocks that are summed in the compute type. None of the outputs may overlap an input,
// but `combine` may write over grad.
struct NormKernels {
  void (*moments)(const void* x, std::ptrdiff_t rows, std::ptrdiff_t channels, double* mean, double* squares);
  void (*activate)(const void* x, const void* const table[3], double alpha, void* y, std::ptrdiff_t rows,
                   std::ptrdiff_t channels);
  void (*sums)(const void* grad, const void* y, const void* bias, double alpha, std::ptrdiff_t rows,
               std::ptrdiff_t channels, double* sum_h, double* sum_hu);
  void (*combine)(const void* grad, const void* y, const void* const table[4], double alpha, void* out,
                  std::ptrdiff_t rows, std::ptrdiff_t channels);
};

// The backward pass of a Leaky ReLU with learned slopes.
//
// Over `rows` rows of `channels` numbers each, in contiguous memory, on one thread, as above. The given values are the
// output y = x where x > 0, weight * x otherwise, with inverse = 1 / weight; or the input itself, with inverse = 1.
// Then
//
//   out: grad where x > 0, weight * grad otherwise          sum: of grad * x over x <= 0
//
// Whether x > 0 follows from the sign of the given value, or, where a weight may be negative, so that the sign of y
// does not determine that of x, from bit first_bit + i of `signs`. weight and inverse hold one number a channel in the
// compute type. Sums are taken in double over blocks that are summed in the compute type. `out` may be null.
using PReLUBackward = void (*)(const void* grad, const void* given, const std::uint8_t* signs, std::ptrdiff_t first_bit,
                               const void* weight, const void* inverse, void* out, std::ptrdiff_t rows,
                               std::ptrdiff_t channels, double* sum);

struct Kernels {
  Loop forward;
  Loop backward;
  Loop inverse;
  PackLoop forward_with_signs;
  UnpackLoop backward_from_signs;
  CensusLoop census;  // null for longdouble
};

struct KernelRow {
  const char* isa;
  Kernels of[dtype_count];
  Kernels streaming[dtype_count];  // the same, writing contiguous output past the cache; not for work in place
  NormKernels norm[tensor_dtype_count];
  PReLUBackward prelu_backward[tensor_dtype_count];
};

// One function for each instruction set that this build holds.
const KernelRow& kernels_baseline();
const KernelRow& kernels_avx2();
const KernelRow& kernels_avx512();
const KernelRow& kernels_neon();

}  // namespace leakyrelu
