#include "tally.h"

#include "census.h"

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

}  // namespace

PyObject* add_census(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 9)
    return PyErr_Format(PyExc_TypeError, "add_census takes 9 positional arguments but %zd were given", count);
  const int bfloat16 = PyObject_IsTrue(args[1]);
  Layout layout;
  layout.outer = PyLong_AsSsize_t(args[2]);
  layout.channels = PyLong_AsSsize_t(args[3]);
  layout.inner = PyLong_AsSsize_t(args[4]);
  const double low = PyFloat_AsDouble(args[5]), ceiling = PyFloat_AsDouble(args[6]);
  if (PyErr_Occurred()) return nullptr;
  auto* x = reinterpret_cast<PyArrayObject*>(args[0]);
  const int dtype = PyArray_Check(args[0]) ? dtype_of(x, bfloat16) : -1;
  if (dtype < 0 || !PyArray_ISCARRAY_RO(x))
    return PyErr_Format(PyExc_TypeError,
                        "add_census: x must be an aligned array in C order of float16, float32 or float64, or of int16 "
                        "that holds bfloat16");
  if (layout.outer < 0 || layout.channels < 0 || layout.inner < 0 ||
      layout.outer * layout.channels * layout.inner != PyArray_SIZE(x))
    return PyErr_Format(PyExc_ValueError, "add_census: %zd x %zd x %zd elements, but x has %zd", layout.outer,
                        layout.channels, layout.inner, static_cast<Py_ssize_t>(PyArray_SIZE(x)));
  if (!is_tally(args[7], NPY_INT64, census_counts, layout.channels) ||
      !is_tally(args[8], NPY_DOUBLE, census_moments, layout.channels))
    return PyErr_Format(PyExc_ValueError,
                        "add_census: counts must be int64 of shape (%d, %zd) and moments float64 of shape (%d, %zd), "
                        "in C order and writeable",
                        census_counts, layout.channels, census_moments, layout.channels);
  auto* counts = static_cast<std::int64_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(args[7])));
  auto* moments = static_cast<double*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(args[8])));
  const auto work = [&] {
    run_census(static_cast<DType>(dtype), PyArray_BYTES(x), layout, low, ceiling, counts, moments);
  };
  if (!without_gil(PyArray_SIZE(x), work)) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace leakyrelu
