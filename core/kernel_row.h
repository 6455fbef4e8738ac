// The table row of one instruction set. Included by one kernel_<isa>.cpp for each, which says nothing but its name.
#pragma once

#include "kernel_loop.h"
#include "norm_loop.h"
#include "prelu_loop.h"

// In the order of DType.
#define LEAKYRELU_KERNELS(stream)                                                           \
  {kernels_of<Half, stream>(), kernels_of<BFloat16, stream>(), kernels_of<float, stream>(), \
   kernels_of<double, stream>(), kernels_of<long double, stream>()}
#define LEAKYRELU_NORM_KERNELS \
  {norm_kernels_of<Half>(), norm_kernels_of<BFloat16>(), norm_kernels_of<float>(), norm_kernels_of<double>()}
#define LEAKYRELU_PRELU_KERNELS \
  {prelu_backward<Half>, prelu_backward<BFloat16>, prelu_backward<float>, prelu_backward<double>}

#define LEAKYRELU_KERNEL_ROW(name)                                                                                  \
  const KernelRow& kernels_##name() {                                                                               \
    static const KernelRow row = {#name, LEAKYRELU_KERNELS(false), LEAKYRELU_KERNELS(true), LEAKYRELU_NORM_KERNELS, \
                                  LEAKYRELU_PRELU_KERNELS};                                                         \
    return row;                                                                                                     \
  }
