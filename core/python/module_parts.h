// What the other files of this folder add to the extension module.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// Functions on arrays, signs packed: leaky_relu_with_signs(x, alpha[, out]) -> (y, signs) and
// leaky_relu_backward_from_signs(grad, signs, alpha[, out]) -> grad_input.
extern PyMethodDef packed_signs_methods[];

// Functions on the memory of tensors (tensor_args.h).
extern PyMethodDef tensor_elementwise_methods[];
extern PyMethodDef tensor_norm_methods[];
extern PyMethodDef tensor_prelu_methods[];
extern PyMethodDef tensor_census_methods[];

// These add the ufuncs leaky_relu, leaky_relu_backward and leaky_relu_inverse, and the decorator fast_path. They return
// -1 with a Python error set.
int add_ufuncs(PyObject* module);
int add_fast_path(PyObject* module);

}  // namespace leakyrelu
