// The short way for the usual call.
//
// A public function is written in Python (arrays.py), where its meaning stands. shortcut(name) is a decorator that
// answers the calls that need none of that — a Python float; a plain dense array with an alpha that lies over it, and
// perhaps an output of the same layout — without a Python frame or the ufunc machinery, and hands every other call to
// the function itself. Both ways end in the same kernels.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// Adds the decorator to the module. Returns -1 with a Python error set.
int add_shortcut(PyObject* module);

}  // namespace leakyrelu
