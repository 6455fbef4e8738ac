// The census on the memory of a tensor or an array (tensor_args.h).
#include "ops/census.h"
#include "python/errors.h"
#include "python/module_parts.h"
#include "python/tensor_args.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {
namespace {

// The data of a writeable array of that type and shape in C order, or null.
template <class T>
T* table_of(PyObject* object, int type, int rows, npy_intp units) {
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  const bool fits = PyArray_Check(object) && PyArray_TYPE(array) == type && PyArray_ISCARRAY(array) &&
                    PyArray_NDIM(array) == 2 && PyArray_DIM(array, 0) == rows && PyArray_DIM(array, 1) == units;
  return fits ? static_cast<T*>(PyArray_DATA(array)) : nullptr;
}

PyObject* add_census_at(PyObject*, PyObject* args) {
  TensorLayout data;
  double low, ceiling;
  char* x;
  PyObject *count_array, *moment_array;
  if (!PyArg_ParseTuple(args, "O&ddO&OO:add_census_at", take_layout, &data, &low, &ceiling, take_address, &x,
                        &count_array, &moment_array))
    return nullptr;
  auto* counts = table_of<std::int64_t>(count_array, NPY_INT64, census_counts, data.channels);
  auto* moments = table_of<double>(moment_array, NPY_DOUBLE, census_moments, data.channels);
  if (counts == nullptr || moments == nullptr) {
    refuse(PyExc_ValueError, "add_census_at",
           "counts must be int64 of shape (%d, %zd) and moments float64 of shape (%d, %zd), in C order and writeable",
           census_counts, data.channels, census_moments, data.channels);
    return nullptr;
  }
  const auto work = [&] {
    const ThreadLimit limit(data.threads);
    run_census(data.dtype, x, channel_layout(data), low, ceiling, counts, moments);
  };
  if (!without_gil(data.size(), work)) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace

PyMethodDef tensor_census_methods[] = {
    {"add_census_at", add_census_at, METH_VARARGS,
     "add_census_at($module, layout, low, ceiling, x, counts, moments, /)\n--\n\n"
     "Count the elements at the address x, a unit a channel, into the arrays counts and moments."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
