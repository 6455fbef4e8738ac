// What the four passes of a normalization followed by a Leaky ReLU are: their signatures.
//
// A pass runs over `rows` rows of `channels` numbers each, in contiguous memory, on one thread. Data with channels last
// are such rows. Where the channels come first, a run of one channel is rows of one channel. Tables hold one number a
// channel in the compute type (leaky_relu.h). With f the Leaky ReLU of slope alpha > 0,
//
//   moments:  mean, and sum of the squared distances from it, of x
//   activate: y = f((x - mean) * scale + bias)
//   sums:     of h = grad * f'(y), and of h * u, with u = f^-1(y) - bias
//   combine:  p * h + q * u + r
//
// Sums are taken in double over blocks that are summed in the compute type. None of the outputs may overlap an input,
// but `combine` may write over grad.
#pragma once

#include <cstddef>

namespace leakyrelu {

struct NormKernels {
  void (*moments)(const void* x, std::ptrdiff_t rows, std::ptrdiff_t channels, double* mean, double* squares);
  void (*activate)(const void* x, const void* const table[3], double alpha, void* y, std::ptrdiff_t rows,
                   std::ptrdiff_t channels);
  void (*sums)(const void* grad, const void* y, const void* bias, double alpha, std::ptrdiff_t rows,
               std::ptrdiff_t channels, double* sum_h, double* sum_hu);
  void (*combine)(const void* grad, const void* y, const void* const table[4], double alpha, void* out,
                  std::ptrdiff_t rows, std::ptrdiff_t channels);
};

}  // namespace leakyrelu
