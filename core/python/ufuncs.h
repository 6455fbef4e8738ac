// The three NumPy ufuncs.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// Adds leaky_relu, leaky_relu_backward and leaky_relu_inverse to the module. Returns -1 with a Python error set.
int add_ufuncs(PyObject* module);

}  // namespace leakyrelu
