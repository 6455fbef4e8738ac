#include "python/errors.h"

#include <cstdarg>
#include <cstdio>

namespace leakyrelu {

bool refuse(PyObject* type, const char* function, const char* format, ...) {
  va_list values;
  va_start(values, format);
  const Ref text(PyUnicode_FromFormatV(format, values));
  va_end(values);
  if (text) PyErr_Format(type, "%s: %U", function, text.get());
  return false;
}

Counted counted(std::ptrdiff_t number, const char* singular, const char* plural) {
  Counted result;
  std::snprintf(result.text, sizeof result.text, "%td %s", number, number == 1 ? singular : plural);
  return result;
}

}  // namespace leakyrelu
