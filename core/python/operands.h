// Operands: conversion of Python objects to the memory and the layouts that the kernels take.
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

// alpha in the compute type, and its layout over the data.
bool take_alpha(const char* function, PyObject* object, const Data& data, Alpha& alpha);

// The output: a fresh array like data where the caller gives none (null or None), otherwise the caller's, through a
// copy where that is not in C order. Without finish(), that copy is discarded and the caller's array stays as it was.
class Target {
 public:
  Target() = default;
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;
  ~Target();

  // An operand that overlaps the caller's output is copied first: the data unless it begins at the same address, the
  // others (null where there are none) in any case.
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

// Clears the floating-point flags on entry. raised() returns those raised since, and must be called before anything
// else computes; report() turns them into NumPy's warnings or errors.
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
