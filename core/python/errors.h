// Python errors in one form: "function: value, cause; remedy".
#pragma once

#include <cstddef>

#include "python/numpy_api.h"

namespace leakyrelu {

// Raises an error of that type, with the name of the function before the text, which is formatted as PyErr_Format()
// formats it. Always returns false.
bool refuse(PyObject* type, const char* function, const char* format, ...);

// A number with its noun, which takes the plural where the number is not 1: "1 axis", "2 axes".
struct Counted {
  char text[64];
};
Counted counted(std::ptrdiff_t number, const char* singular, const char* plural);

}  // namespace leakyrelu
