// The arguments that all functions on tensors share: how the elements lie, and at which addresses.
//
// A tensor is known to Python by its data pointer. Beyond the numbers in the layout nothing is checked: the callers are
// the adapters of frameworks (leakyrelu.torch), which have just made the tensors or looked at them.
#pragma once

#include "ops/layout.h"
#include "python/numpy_api.h"

namespace leakyrelu {

// Whether a code is one of _core.DTYPES.
bool is_tensor_dtype(int code);

// Converters for the "O&" of PyArg_ParseTuple(): they return 1, or 0 with a Python error set.

// A TensorLayout, from the tuple (dtype, samples, channels, positions, channels last, threads). dtype is a code of
// _core.DTYPES; threads is the largest number to compute on, 0 for as many as set_num_threads() allows.
int take_layout(PyObject* object, void* layout);

// A char*, from an integer; 0 is a null pointer.
int take_address(PyObject* object, void* pointer);

// The dtypes of tensors: a dict from name to code, in the order of the enumeration DType.
PyObject* tensor_dtypes();

}  // namespace leakyrelu
