// The census, as plain functions: on an array, and on memory by its address.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// (x, bfloat16, outer, channels, inner, low, ceiling, counts, moments) -> None; adds to counts and moments.
PyObject* add_census(PyObject*, PyObject* const* args, Py_ssize_t count);

// (dtype, address, outer, channels, inner, low, ceiling, counts, moments, threads) -> None; the same on at most so many
// threads. dtype: index of the enumeration DType (table.h).
PyObject* add_census_at(PyObject*, PyObject* const* args, Py_ssize_t count);

}  // namespace leakyrelu
