// Normalization followed by a Leaky ReLU, as single passes and as a whole layer: the kernel of the active row, split
// over threads.
#pragma once

#include <cstdint>

#include "ops/layout.h"

namespace leakyrelu {

// The results do not depend on the number of threads: the pieces that are summed apart depend on the sizes alone.
void run_moments(const TensorLayout& data, const char* x, double* mean, double* squares);
void run_sums(const TensorLayout& data, const char* grad, const char* y, Table bias, double alpha, double* sum_h,
              double* sum_hu);

// Several tables one after the other: mean, scale, bias; and bias, p, q, r.
void run_activate(const TensorLayout& data, const char* x, Table tables, double alpha, char* y);
void run_combine(const TensorLayout& data, const char* grad, const char* y, Table tables, double alpha, char* out);

// The whole forward and backward pass, tables included, where one process has all the data. With
// xhat = (x - mean) * invstd and v = weight * xhat + bias, y = f(v).
struct NormLayer {
  std::ptrdiff_t groups;  // groups of channels that share a statistic within a sample; 0: a channel, over all samples
  bool estimate;          // the statistics are those of the data, and gradients flow through them
  double alpha;
  const double *weight, *bias;  // one number a channel; null: 1 and 0

  // Rows of the tables of statistics: one, or one a sample.
  std::ptrdiff_t rows(const TensorLayout& data) const { return estimate && groups > 0 ? data.samples : 1; }
};

// mean and var are given, or, with `estimate`, found. invstd is found.
void run_forward(const TensorLayout& data, const NormLayer& layer, double eps, const char* x, double* mean, double* var,
                 double* invstd, char* y);

// Channels whose xhat was kept, since it cannot be recovered from the output.
struct KeptChannels {
  TensorLayout data;  // of as many channels, contiguous, in the compute type; no channels: there are none
  const std::int64_t* channels;
  const char* xhat;
  char* h;  // grad * f'(y); the backward pass writes the gradient of x over it
};

// Without `out`, only the gradients of weight and bias. In the channels that were kept, what is written to `out` has no
// meaning.
void run_backward(const TensorLayout& data, const NormLayer& layer, const double* invstd, const KeptChannels& kept,
                  const char* grad, const char* y, double* grad_weight, double* grad_bias, char* out);

}  // namespace leakyrelu
