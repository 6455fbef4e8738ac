#include "norm.h"

#include <cstring>

#include "norm_run.h"
#include "run.h"

namespace leakyrelu {
namespace {

// What the memory of an array holds is said beside it, since NumPy has no bfloat16: the name of the dtype, then
// samples, channels, positions, and whether the channels come last.
bool take_layout(PyObject* layout, NormData& data) {
  const char* name = nullptr;
  int last = 0;
  if (!PyArg_ParseTuple(layout, "snnnp", &name, &data.samples, &data.channels, &data.positions, &last)) return false;
  data.channels_last = last != 0;
  constexpr const char* names[norm_dtype_count] = {"float16", "bfloat16", "float32", "float64"};
  for (int i = 0; i < norm_dtype_count; ++i) {
    if (std::strcmp(name, names[i]) == 0) {
      data.dtype = static_cast<DType>(i);
      return true;
    }
  }
  PyErr_Format(PyExc_TypeError, "norm: no dtype %s; there are float16, bfloat16, float32 and float64", name);
  return false;
}

bool is_memory(PyObject* object, std::ptrdiff_t bytes, bool written) {
  const int flags = written ? NPY_ARRAY_CARRAY : NPY_ARRAY_CARRAY_RO;
  if (PyArray_Check(object) && PyArray_CHKFLAGS(reinterpret_cast<PyArrayObject*>(object), flags) &&
      PyArray_NBYTES(reinterpret_cast<PyArrayObject*>(object)) == bytes)
    return true;
  PyErr_Format(PyExc_ValueError, "norm: expected %s array in C order of %zd bytes, not %R",
               written ? "a writable" : "an", static_cast<Py_ssize_t>(bytes), object);
  return false;
}

char* bytes_of(PyObject* array) { return PyArray_BYTES(reinterpret_cast<PyArrayObject*>(array)); }

// `number` tables of one row or of one a sample.
bool take_tables(PyObject* object, const NormData& data, int number, Table& table) {
  if (PyArray_Check(object)) {
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    const npy_intp* dims = PyArray_DIMS(array);
    if (PyArray_TYPE(array) == NPY_DOUBLE && PyArray_CHKFLAGS(array, NPY_ARRAY_CARRAY_RO) && PyArray_NDIM(array) == 3 &&
        dims[0] == number && (dims[1] == 1 || dims[1] == data.samples) && dims[2] == data.channels) {
      table = {static_cast<const double*>(PyArray_DATA(array)), dims[1]};
      return true;
    }
  }
  PyErr_Format(PyExc_ValueError, "norm: expected float64 tables of shape (%d, 1 or %zd, %zd) in C order, not %R",
               number, static_cast<Py_ssize_t>(data.samples), static_cast<Py_ssize_t>(data.channels), object);
  return false;
}

// Two fresh tables, one row a sample, and the tuple that holds them.
Ref make_pair(const NormData& data, double*& first, double*& second) {
  const npy_intp dims[2] = {data.samples, data.channels};
  Ref a(PyArray_SimpleNew(2, dims, NPY_DOUBLE)), b(PyArray_SimpleNew(2, dims, NPY_DOUBLE));
  if (!a || !b) return {};
  first = static_cast<double*>(PyArray_DATA(a.array()));
  second = static_cast<double*>(PyArray_DATA(b.array()));
  return Ref(PyTuple_Pack(2, a.get(), b.get()));
}

PyObject* moments(PyObject*, PyObject* args) {
  PyObject *x = nullptr, *layout = nullptr;
  NormData data{};
  if (!PyArg_ParseTuple(args, "OO!", &x, &PyTuple_Type, &layout) || !take_layout(layout, data)) return nullptr;
  if (!is_memory(x, data.size() * size_of(data.dtype), false)) return nullptr;
  double *mean = nullptr, *squares = nullptr;
  Ref result = make_pair(data, mean, squares);
  if (!result) return nullptr;
  without_gil(data.size(), [&] { run_moments(data, bytes_of(x), mean, squares); });
  return result.release();
}

PyObject* activate(PyObject*, PyObject* args) {
  PyObject *x = nullptr, *tables = nullptr, *y = nullptr, *layout = nullptr;
  double alpha = 0;
  NormData data{};
  Table table{};
  if (!PyArg_ParseTuple(args, "OOdOO!", &x, &tables, &alpha, &y, &PyTuple_Type, &layout) ||
      !take_layout(layout, data) || !take_tables(tables, data, 3, table))
    return nullptr;
  const std::ptrdiff_t bytes = data.size() * size_of(data.dtype);
  if (!is_memory(x, bytes, false) || !is_memory(y, bytes, true)) return nullptr;
  without_gil(data.size(), [&] { run_activate(data, bytes_of(x), table, alpha, bytes_of(y)); });
  Py_RETURN_NONE;
}

PyObject* sums(PyObject*, PyObject* args) {
  PyObject *grad = nullptr, *y = nullptr, *bias = nullptr, *layout = nullptr;
  double alpha = 0;
  NormData data{};
  Table table{};
  if (!PyArg_ParseTuple(args, "OOOdO!", &grad, &y, &bias, &alpha, &PyTuple_Type, &layout) ||
      !take_layout(layout, data) || !take_tables(bias, data, 1, table))
    return nullptr;
  const std::ptrdiff_t bytes = data.size() * size_of(data.dtype);
  if (!is_memory(grad, bytes, false) || !is_memory(y, bytes, false)) return nullptr;
  double *h = nullptr, *hu = nullptr;
  Ref result = make_pair(data, h, hu);
  if (!result) return nullptr;
  without_gil(data.size(), [&] { run_sums(data, bytes_of(grad), bytes_of(y), table, alpha, h, hu); });
  return result.release();
}

PyObject* combine(PyObject*, PyObject* args) {
  PyObject *grad = nullptr, *y = nullptr, *tables = nullptr, *out = nullptr, *layout = nullptr;
  double alpha = 0;
  NormData data{};
  Table table{};
  if (!PyArg_ParseTuple(args, "OOOdOO!", &grad, &y, &tables, &alpha, &out, &PyTuple_Type, &layout) ||
      !take_layout(layout, data) || !take_tables(tables, data, 4, table))
    return nullptr;
  const std::ptrdiff_t bytes = data.size() * size_of(data.dtype);
  if (!is_memory(grad, bytes, false) || !is_memory(y, bytes, false) || !is_memory(out, bytes, true)) return nullptr;
  without_gil(data.size(), [&] { run_combine(data, bytes_of(grad), bytes_of(y), table, alpha, bytes_of(out)); });
  Py_RETURN_NONE;
}

// One number a channel, in float64; None is a null pointer.
bool take_numbers(PyObject* object, std::ptrdiff_t count, Ref& array, const double*& numbers) {
  numbers = nullptr;
  if (object == Py_None) return true;
  array = Ref(PyArray_FROMANY(object, NPY_DOUBLE, 0, 0, NPY_ARRAY_CARRAY_RO));
  if (!array) return false;
  if (PyArray_SIZE(array.array()) != count) {
    PyErr_Format(PyExc_ValueError, "norm: expected %zd numbers, not %R", static_cast<Py_ssize_t>(count), object);
    return false;
  }
  numbers = static_cast<const double*>(PyArray_DATA(array.array()));
  return true;
}

// (groups, estimate, alpha, weight, bias)
struct LayerArguments {
  NormLayer layer{};
  Ref weight, bias;

  bool take(PyObject* object, const NormData& data) {
    PyObject *w = nullptr, *b = nullptr;
    int estimate = 0;
    if (!PyArg_ParseTuple(object, "npdOO", &layer.groups, &estimate, &layer.alpha, &w, &b)) return false;
    layer.estimate = estimate != 0;
    if (layer.groups < 0 || (layer.groups > 0 && data.channels % layer.groups != 0)) {
      PyErr_Format(PyExc_ValueError, "norm: %zd groups of %zd channels", static_cast<Py_ssize_t>(layer.groups),
                   static_cast<Py_ssize_t>(data.channels));
      return false;
    }
    return take_numbers(w, data.channels, weight, layer.weight) && take_numbers(b, data.channels, bias, layer.bias);
  }
};

double* doubles(const Ref& array) { return static_cast<double*>(PyArray_DATA(array.array())); }

PyObject* forward(PyObject*, PyObject* args) {
  PyObject *x = nullptr, *y = nullptr, *mean = nullptr, *var = nullptr, *layer_object = nullptr, *layout = nullptr;
  double eps = 0;
  NormData data{};
  LayerArguments arguments;
  if (!PyArg_ParseTuple(args, "OOOOdO!O!", &x, &y, &mean, &var, &eps, &PyTuple_Type, &layer_object, &PyTuple_Type,
                        &layout) ||
      !take_layout(layout, data) || !arguments.take(layer_object, data))
    return nullptr;
  const std::ptrdiff_t bytes = data.size() * size_of(data.dtype);
  if (!is_memory(x, bytes, false) || !is_memory(y, bytes, true)) return nullptr;
  const NormLayer& layer = arguments.layer;
  const npy_intp dims[2] = {layer.rows(data), data.channels};
  Ref tables[3];
  for (Ref& table : tables) {
    table = Ref(PyArray_SimpleNew(2, dims, NPY_DOUBLE));
    if (!table) return nullptr;
  }
  if (!layer.estimate) {
    PyObject* given[2] = {mean, var};
    for (int i = 0; i < 2; ++i) {
      Ref array;
      const double* numbers = nullptr;
      if (!take_numbers(given[i], data.channels, array, numbers)) return nullptr;
      if (numbers == nullptr) {
        PyErr_SetString(PyExc_ValueError, "norm: neither statistics nor leave to estimate them");
        return nullptr;
      }
      for (npy_intp c = 0; c < data.channels; ++c) doubles(tables[i])[c] = numbers[c];
    }
  }
  without_gil(data.size(), [&] {
    run_forward(data, layer, eps, bytes_of(x), doubles(tables[0]), doubles(tables[1]), doubles(tables[2]), bytes_of(y));
  });
  return PyTuple_Pack(3, tables[0].get(), tables[1].get(), tables[2].get());
}

PyObject* backward(PyObject*, PyObject* args) {
  PyObject *grad = nullptr, *y = nullptr, *out = nullptr, *invstd = nullptr, *layer_object = nullptr, *layout = nullptr;
  NormData data{};
  LayerArguments arguments;
  if (!PyArg_ParseTuple(args, "OOOOO!O!", &grad, &y, &invstd, &out, &PyTuple_Type, &layer_object, &PyTuple_Type,
                        &layout) ||
      !take_layout(layout, data) || !arguments.take(layer_object, data))
    return nullptr;
  const std::ptrdiff_t bytes = data.size() * size_of(data.dtype);
  if (!is_memory(grad, bytes, false) || !is_memory(y, bytes, false) || (out != Py_None && !is_memory(out, bytes, true)))
    return nullptr;
  const NormLayer& layer = arguments.layer;
  Ref array;
  const double* numbers = nullptr;
  if (!take_numbers(invstd, layer.rows(data) * data.channels, array, numbers)) return nullptr;
  const npy_intp dims[1] = {data.channels};
  Ref grad_weight(PyArray_SimpleNew(1, dims, NPY_DOUBLE)), grad_bias(PyArray_SimpleNew(1, dims, NPY_DOUBLE));
  if (!grad_weight || !grad_bias) return nullptr;
  without_gil(data.size(), [&] {
    run_backward(data, layer, numbers, bytes_of(grad), bytes_of(y), doubles(grad_weight), doubles(grad_bias),
                 out == Py_None ? nullptr : bytes_of(out));
  });
  return PyTuple_Pack(2, grad_weight.get(), grad_bias.get());
}

}  // namespace

PyMethodDef norm_methods[] = {
    {"norm_forward", forward, METH_VARARGS,
     "norm_forward(x, y, mean, var, eps, layer, layout, /) -> (mean, var, invstd)"},
    {"norm_backward", backward, METH_VARARGS,
     "norm_backward(grad, y, invstd, out, layer, layout, /) -> (grad_weight, grad_bias)"},
    {"norm_moments", moments, METH_VARARGS, "norm_moments(x, layout, /) -> (mean, squares)"},
    {"norm_activate", activate, METH_VARARGS, "norm_activate(x, mean_scale_bias, alpha, y, layout, /)"},
    {"norm_sums", sums, METH_VARARGS, "norm_sums(grad, y, bias, alpha, layout, /) -> (h, hu)"},
    {"norm_combine", combine, METH_VARARGS, "norm_combine(grad, y, bias_p_q_r, alpha, out, layout, /)"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
