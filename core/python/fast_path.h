// The fast path: the usual calls of a public function, answered without a Python frame or the ufunc machinery.
//
// A public function is written in Python (arrays.py), where its meaning and the default of alpha stand.
// fast_path(function, name) is a decorator that answers the calls that need none of that: a Python float; a plain dense
// array with an alpha that broadcasts over it, and perhaps an output of the same layout. Every other call takes the
// general path, the function itself. Both paths end in the same kernels.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// Adds the decorator to the module. Returns -1 with a Python error set.
int add_fast_path(PyObject* module);

}  // namespace leakyrelu
