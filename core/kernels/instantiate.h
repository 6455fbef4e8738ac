// The row of the kernel table for one instruction set. Included by one <isa>.cpp for each, which holds nothing but its
// name.
#pragma once

#include <type_traits>

#include "kernels/census.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"
#include "kernels/prelu.h"

namespace leakyrelu {
namespace {

template <class T>
constexpr CensusLoop census_of() {
  if constexpr (std::is_same_v<T, long double>)
    return nullptr;  // no framework has activations of it
  else
    return census_loop<T>;
}

template <class T, bool stream>
constexpr Kernels kernels_of() {
  return {unary_loop<T, stream, Multiply>,     backward_loop<T, stream>,
          unary_loop<T, stream, Divide>,       forward_with_signs_loop<T, stream>,
          backward_from_signs_loop<T, stream>, census_of<T>()};
}

template <class T>
constexpr NormKernels norm_kernels_of() {
  return {norm_moments<T>, norm_activate<T>, norm_sums<T>, norm_combine<T>};
}

}  // namespace
}  // namespace leakyrelu

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
