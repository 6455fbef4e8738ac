#include "python/tensor_census.h"

#include <algorithm>

#include "ops/census.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {
namespace {

// The dtype that the kernels see, or -1. A bfloat16 array comes as the 16-bit integers that hold it.
int dtype_of(PyArrayObject* x, bool bfloat16) {
  switch (PyArray_TYPE(x)) {
    case NPY_FLOAT:
      return bfloat16 ? -1 : static_cast<int>(DType::float32);
    case NPY_DOUBLE:
      return bfloat16 ? -1 : static_cast<int>(DType::float64);
    case NPY_HALF:
      return bfloat16 ? -1 : static_cast<int>(DType::half);
    case NPY_INT16:
      return bfloat16 ? static_cast<int>(DType::bfloat16) : -1;
    default:
      return -1;
  }
}

bool is_tally(PyObject* object, int type, int rows, npy_intp units) {
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  return PyArray_Check(object) && PyArray_TYPE(array) == type && PyArray_ISCARRAY(array) && PyArray_NDIM(array) == 2 &&
         PyArray_DIM(array, 0) == rows && PyArray_DIM(array, 1) == units;
}

// The arguments that both functions share: outer, channels, inner, low, ceiling, counts, moments.
struct Call {
  Layout layout;
  double low, ceiling;
  std::int64_t* counts;
  double* moments;
};

bool read_numbers(PyObject* const* args, Call& call) {
  call.layout.outer = PyLong_AsSsize_t(args[0]);
  call.layout.channels = PyLong_AsSsize_t(args[1]);
  call.layout.inner = PyLong_AsSsize_t(args[2]);
  call.low = PyFloat_AsDouble(args[3]);
  call.ceiling = PyFloat_AsDouble(args[4]);
  return PyErr_Occurred() == nullptr;
}

bool read_tally(const char* function, PyObject* const* args, Call& call) {
  if (!is_tally(args[5], NPY_INT64, census_counts, call.layout.channels) ||
      !is_tally(args[6], NPY_DOUBLE, census_moments, call.layout.channels)) {
    PyErr_Format(PyExc_ValueError,
                 "%s: counts must be int64 of shape (%d, %zd) and moments float64 of shape (%d, %zd), in C order and "
                 "writeable",
                 function, census_counts, call.layout.channels, census_moments, call.layout.channels);
    return false;
  }
  call.counts = static_cast<std::int64_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(args[5])));
  call.moments = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(args[6])));
  return true;
}

}  // namespace

PyObject* add_census(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 9)
    return PyErr_Format(PyExc_TypeError, "add_census takes 9 positional arguments but %zd were given", count);
  const int bfloat16 = PyObject_IsTrue(args[1]);
  if (bfloat16 < 0) return nullptr;
  auto* x = reinterpret_cast<PyArrayObject*>(args[0]);
  const int dtype = PyArray_Check(args[0]) ? dtype_of(x, bfloat16) : -1;
  if (dtype < 0 || !PyArray_ISCARRAY_RO(x))
    return PyErr_Format(PyExc_TypeError,
                        "add_census: x must be an aligned array in C order of float16, float32 or float64, or of int16 "
                        "that holds bfloat16");
  Call call;
  if (!read_numbers(args + 2, call)) return nullptr;
  const Layout& layout = call.layout;
  if (layout.outer < 0 || layout.channels < 0 || layout.inner < 0 ||
      product(layout.outer, layout.channels, layout.inner) != PyArray_SIZE(x))
    return PyErr_Format(PyExc_ValueError, "add_census: %zd x %zd x %zd elements, but x has %zd", layout.outer,
                        layout.channels, layout.inner, static_cast<Py_ssize_t>(PyArray_SIZE(x)));
  if (!read_tally("add_census", args + 2, call)) return nullptr;
  const auto work = [&] {
    run_census(static_cast<DType>(dtype), PyArray_BYTES(x), layout, call.low, call.ceiling, call.counts, call.moments);
  };
  if (!without_gil(PyArray_SIZE(x), work)) return nullptr;
  Py_RETURN_NONE;
}

// No more is checked of x than can be: this is the inner half of leakyrelu.torch, which has the tensor.
PyObject* add_census_at(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 10)
    return PyErr_Format(PyExc_TypeError, "add_census_at takes 10 positional arguments but %zd were given", count);
  const long dtype = PyLong_AsLong(args[0]), threads = PyLong_AsLong(args[9]);
  const auto* x = static_cast<const char*>(PyLong_AsVoidPtr(args[1]));
  Call call;
  if (PyErr_Occurred() || !read_numbers(args + 2, call)) return nullptr;
  const Layout& layout = call.layout;
  if (dtype < 0 || dtype > static_cast<long>(DType::float64) || layout.outer < 0 || layout.channels < 0 ||
      layout.inner < 0)
    return PyErr_Format(PyExc_ValueError, "add_census_at: there is no dtype %ld, or no layout %zd x %zd x %zd", dtype,
                        layout.outer, layout.channels, layout.inner);
  if (!read_tally("add_census_at", args + 2, call)) return nullptr;
  const auto work = [&] {
    const ThreadLimit limit(static_cast<int>(std::clamp(threads, 1L, 1L << 20)));
    run_census(static_cast<DType>(dtype), x, layout, call.low, call.ceiling, call.counts, call.moments);
  };
  if (!without_gil(layout.outer * layout.channels * layout.inner, work)) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace leakyrelu
