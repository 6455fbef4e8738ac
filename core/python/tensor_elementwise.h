// Leaky ReLU on bare addresses, for tensors of a framework that Python knows by their data pointers.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// (dtype, slope, n, threads, x, y, signs): dtype is an index of the enumeration DType, the last three are addresses.
PyObject* with_signs_at(PyObject*, PyObject* const* args, Py_ssize_t count);
// make_room(bytes) and leave_room(): see memory.h
PyObject* make_room_for(PyObject*, PyObject* bytes);
PyObject* leave_room_again(PyObject*, PyObject*);
// (dtype, slope, n, threads, grad, signs, out)
PyObject* from_signs_at(PyObject*, PyObject* const* args, Py_ssize_t count);

}  // namespace leakyrelu
