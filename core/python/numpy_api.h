// The NumPy C API, imported once for all files of this layer, an owning reference, and work without the interpreter
// lock.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#define PY_ARRAY_UNIQUE_SYMBOL leakyrelu_array_api
#define PY_UFUNC_UNIQUE_SYMBOL leakyrelu_ufunc_api
#if !defined(LEAKYRELU_IMPORTS_NUMPY)
#define NO_IMPORT_ARRAY
#define NO_IMPORT_UFUNC
#endif
#include <numpy/arrayobject.h>
#include <numpy/dtype_api.h>
#include <numpy/ufuncobject.h>
#include <unistd.h>

#include <exception>

namespace leakyrelu {

class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* stolen) : object_(stolen) {}
  Ref(Ref&& other) noexcept : object_(other.release()) {}
  Ref& operator=(Ref&& other) noexcept {
    PyObject* old = object_;
    object_ = other.release();
    Py_XDECREF(old);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }

  explicit operator bool() const { return object_ != nullptr; }
  PyObject* get() const { return object_; }
  PyArrayObject* array() const { return reinterpret_cast<PyArrayObject*>(object_); }
  PyObject* release() {
    PyObject* object = object_;
    object_ = nullptr;
    return object;
  }

 private:
  PyObject* object_ = nullptr;
};

// A thread that asks for the lock when the interpreter has ended is terminated by Python: before 3.14 by unwinding its
// stack, which would drop references without the lock. So it pauses here forever, as it does in Python from 3.14 on.
inline void take_gil(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    for (;;) ::pause();
  }
}

// Runs the work without the interpreter lock, unless it is so short that releasing the lock would cost more. Returns
// false, with MemoryError set, where the work ran out of memory: no exception may pass through the frames of Python.
template <class Work>
[[nodiscard]] bool without_gil(std::ptrdiff_t elements, const Work& work) {
  PyThreadState* state = elements < 1000 ? nullptr : PyEval_SaveThread();
  bool done = true;
  try {
    work();
  } catch (const std::exception&) {
    done = false;
  }
  if (state != nullptr) take_gil(state);
  if (!done) PyErr_NoMemory();
  return done;
}

}  // namespace leakyrelu
