// Leaky ReLU with learned slopes on bare addresses, for tensors of a framework that Python knows by their data
// pointers.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

PyObject* prelu_forward_at(PyObject*, PyObject* args);
PyObject* prelu_backward_at(PyObject*, PyObject* args);

}  // namespace leakyrelu
