// Leaky ReLU with packed signs, as functions on arrays.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// leaky_relu_with_signs(x, alpha[, out]) -> (y, signs)
// leaky_relu_backward_from_signs(grad, signs, alpha[, out]) -> grad_input
extern PyMethodDef packed_signs_methods[];

}  // namespace leakyrelu
