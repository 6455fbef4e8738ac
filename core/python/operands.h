// Python objects made into what the kernels take.
#pragma once

#include "kernels/table.h"
#include "ops/elementwise.h"
#include "python/numpy_api.h"

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
  AlphaLayout layout;

  const char* bytes() const { return PyArray_BYTES(array.array()); }
};

// alpha in the compute type, and how it lies over data.
bool take_alpha(const char* function, PyObject* object, const Data& data, Alpha& alpha);

// The output: a fresh array like data where the caller gives none (null or None), else the caller's, by way of a copy
// where that is not in C order. What is not finished leaves the caller's array as it was.
class Target {
 public:
  Target() = default;
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;
  ~Target();

  // An operand that lies in the caller's memory is copied first: the data where it lies in another place, the others
  // (null where there are none) wherever they lie.
  bool take(const char* function, PyObject* object, Data& data, Ref* alpha, Ref* signs);
  bool finish();

  char* bytes() const { return PyArray_BYTES(array_.array()); }
  Output kind() const { return callers_ ? Output::callers : Output::fresh; }
  PyObject* get() const { return callers_ ? callers_.get() : array_.get(); }

 private:
  Ref array_;    // what the kernels write
  Ref callers_;  // empty for a fresh output
};

// Whether two arrays in C or Fortran order share memory.
bool share_memory(PyArrayObject* a, PyArrayObject* b);

// Clears the floating-point flags on entry. raised() are those raised since, to be asked before anything else computes;
// report() turns them into NumPy's warnings or errors.
class FloatingPointFlags {
 public:
  FloatingPointFlags(const char* function, DType dtype);
  int raised() const;
  bool report(int raised) const;

 private:
  const char* function_;
  DType dtype_;
};

}  // namespace leakyrelu
