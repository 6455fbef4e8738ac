#include "prelu.h"

#include "dispatch.h"
#include "memory.h"
#include "run.h"
#include "runs.h"
#include "threads.h"

namespace leakyrelu {
namespace {

// As in tensors.cpp, no operand is checked beyond its number, dtype and count of weights.
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

void run_prelu_backward(const NormData& data, Table tables, const char* grad, const char* given,
                        const std::uint8_t* signs, char* out, double* sums) {
  const Runs runs(data);
  const auto kernel = active_row().prelu_backward[static_cast<int>(data.dtype)];
  const std::ptrdiff_t size = size_of(data.dtype);
  const Converted table(data, tables, 2);
  std::vector<double> parts(static_cast<std::size_t>(runs.count * runs.pieces * runs.width));
  runs.for_each_piece([&](auto run, auto piece, auto first, auto rows) {
    const void* part[2];
    table.at(runs, run, part);
    kernel(grad + first * size, given + first * size, signs, first, part[0], part[1],
           out == nullptr ? nullptr : out + first * size, rows, runs.width,
           parts.data() + (run * runs.pieces + piece) * runs.width);
  });
  for (std::ptrdiff_t c = 0; c < data.channels; ++c) sums[c] = 0;
  for (std::ptrdiff_t i = 0; i < runs.count * runs.pieces; ++i)
    for (std::ptrdiff_t j = 0; j < runs.width; ++j)
      sums[(i / runs.pieces * runs.width + j) % data.channels] += parts[static_cast<std::size_t>(i * runs.width + j)];
}

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
  const Layout layout = data.channels_last ? Layout{data.samples * data.positions, data.channels, 1}
                                           : Layout{data.samples, data.channels, data.positions};
  const auto work = [&] {
    const ThreadLimit limit(data.threads);
    const std::ptrdiff_t n = data.size();
    const Converted table(data, call.tables, 1);
    const void* alpha = nullptr;
    table.at(Runs(data), 0, &alpha);
    advise_huge_pages(address<char>(y), n * size_of(data.dtype));
    if (signs != 0) {
      auto* bits = address<std::uint8_t>(signs);
      if (n > 0) bits[(n - 1) / 8] = 0;  // the trailing bits
      run_with_signs(data.dtype, address<char>(x), static_cast<const char*>(alpha), layout, address<char>(y), bits, n,
                     Output::fresh);
    } else {
      char* operands[4] = {address<char>(x), const_cast<char*>(static_cast<const char*>(alpha)), address<char>(y)};
      run_dense(data.dtype, &Kernels::forward, 2, operands, layout, n, Output::fresh);
    }
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
