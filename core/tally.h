// The census, as a plain function on arrays.
#pragma once

#include "python.h"

namespace leakyrelu {

// (x, bfloat16, outer, channels, inner, low, ceiling, counts, moments) -> None; adds to counts and moments.
PyObject* add_census(PyObject*, PyObject* const* args, Py_ssize_t count);

}  // namespace leakyrelu
