// Leaky ReLU with learned slopes on the memory of tensors (tensor_args.h).
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// prelu_forward_at(layout, weight, x, y, signs) and prelu_backward_at(layout, weight and inverse, grad, given, signs,
// out), which returns the sums a channel.
extern PyMethodDef tensor_prelu_methods[];

}  // namespace leakyrelu
