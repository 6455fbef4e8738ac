// Python objects made into what the kernels take.
#pragma once

#include "kernel.h"
#include "python.h"
#include "run.h"

namespace leakyrelu {

// The data as an aligned array of native byte order in C order, in the dtype that computes it.
struct Data {
  Ref array;
  DType dtype = DType::float64;

  PyArrayObject* get() const { return array.array(); }
  char* bytes() const { return PyArray_BYTES(array.array()); }
  std::ptrdiff_t size() const { return PyArray_SIZE(array.array()); }
};

// Returns false with a Python error set. `operand` is what the argument is called.
bool take_data(const char* function, const char* operand, PyObject* object, Data& data);

struct Alpha {
  Ref array;
  Layout layout;

  const char* bytes() const { return PyArray_BYTES(array.array()); }
};

// alpha in the compute type, and how it lies over data.
bool take_alpha(const char* function, PyObject* object, const Data& data, Alpha& alpha);

// The output: a fresh array like data where object is null or None, else the caller's (a write-back copy of it where it
// is not in C order; `finish` completes that). data is copied first where the caller's array overlaps it in another
// place.
bool take_output(const char* function, PyObject* object, Data& data, Ref& output);
bool finish_output(PyObject* object, Ref& output);

// Clears the floating-point flags on entry; report() turns those raised since into NumPy's warnings or errors.
class FloatingPointFlags {
 public:
  FloatingPointFlags(const char* function, DType dtype);
  bool report();

 private:
  const char* function_;
  DType dtype_;
};

}  // namespace leakyrelu
