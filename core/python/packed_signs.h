// Leaky ReLU with packed signs, as plain functions on arrays.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// (x, alpha[, out]) -> (y, signs)
PyObject* leaky_relu_with_signs(PyObject*, PyObject* const* args, Py_ssize_t count);
// (grad, signs, alpha[, out]) -> grad_input
PyObject* leaky_relu_backward_from_signs(PyObject*, PyObject* const* args, Py_ssize_t count);

}  // namespace leakyrelu
