#include "python/tensor_prelu.h"

#include "ops/prelu.h"
#include "runtime/huge_pages.h"

namespace leakyrelu {
namespace {

// As in tensor_elementwise.cpp, no operand is checked beyond its number, dtype and count of weights.
struct Call {
  NormData data{};
  int dtype = 0, last = 0;
  int threads = 1;
  Ref array;
  Table tables{nullptr, 1};

  // `count` tables of one number a channel, in float64, one after the other.
  bool take(const char* function, PyObject* weights, int count) {
    if (dtype < 0 || dtype >= norm_dtype_count || data.samples < 0 || data.channels < 1 || data.positions < 0) {
      PyErr_Format(PyExc_ValueError, "%s: there is no dtype %d, or no layout of %zd x %zd x %zd", function, dtype,
                   static_cast<Py_ssize_t>(data.samples), static_cast<Py_ssize_t>(data.channels),
                   static_cast<Py_ssize_t>(data.positions));
      return false;
    }
    data.dtype = static_cast<DType>(dtype);
    data.channels_last = last != 0;
    data.threads = threads < 1 ? 1 : threads;
    array = Ref(PyArray_FROMANY(weights, NPY_DOUBLE, 0, 0, NPY_ARRAY_CARRAY_RO));
    if (!array) return false;
    if (PyArray_SIZE(array.array()) != count * data.channels) {
      PyErr_Format(PyExc_ValueError, "%s: expected %zd numbers, not %R", function,
                   static_cast<Py_ssize_t>(count * data.channels), weights);
      return false;
    }
    tables.values = static_cast<const double*>(PyArray_DATA(array.array()));
    return true;
  }
};

template <class T>
T* address(Py_ssize_t number) {
  return reinterpret_cast<T*>(number);
}

}  // namespace

PyObject* prelu_forward_at(PyObject*, PyObject* args) {
  Call call;
  PyObject* weights = nullptr;
  Py_ssize_t x = 0, y = 0, signs = 0;
  if (!PyArg_ParseTuple(args, "(innnp)iOnnn", &call.dtype, &call.data.samples, &call.data.channels,
                        &call.data.positions, &call.last, &call.threads, &weights, &x, &y, &signs) ||
      !call.take("prelu_forward_at", weights, 1))
    return nullptr;
  const NormData& data = call.data;
  const auto work = [&] {
    advise_huge_pages(address<char>(y), data.size() * size_of(data.dtype));
    run_prelu_forward(data, call.tables, address<char>(x), address<char>(y), address<std::uint8_t>(signs));
  };
  if (!without_gil(data.size(), work)) return nullptr;
  Py_RETURN_NONE;
}

PyObject* prelu_backward_at(PyObject*, PyObject* args) {
  Call call;
  PyObject* weights = nullptr;
  Py_ssize_t grad = 0, given = 0, signs = 0, out = 0;
  if (!PyArg_ParseTuple(args, "(innnp)iOnnnn", &call.dtype, &call.data.samples, &call.data.channels,
                        &call.data.positions, &call.last, &call.threads, &weights, &grad, &given, &signs, &out) ||
      !call.take("prelu_backward_at", weights, 2))
    return nullptr;
  const npy_intp dims[1] = {call.data.channels};
  Ref sums(PyArray_SimpleNew(1, dims, NPY_DOUBLE));
  if (!sums) return nullptr;
  const auto work = [&] {
    if (out != 0) advise_huge_pages(address<char>(out), call.data.size() * size_of(call.data.dtype));
    run_prelu_backward(call.data, call.tables, address<char>(grad), address<char>(given), address<std::uint8_t>(signs),
                       address<char>(out), static_cast<double*>(PyArray_DATA(sums.array())));
  };
  if (!without_gil(call.data.size(), work)) return nullptr;
  return sums.release();
}

}  // namespace leakyrelu
