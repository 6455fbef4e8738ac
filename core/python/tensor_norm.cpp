#include "python/tensor_norm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/number.h"
#include "ops/norm.h"
#include "runtime/huge_pages.h"

namespace leakyrelu {
namespace {

// What the memory of an array holds is said beside it, since NumPy has no bfloat16: the name of the dtype, then
// samples, channels, positions, whether the channels come last, and, if not all that are allowed, how many threads.
bool take_layout(PyObject* layout, NormData& data) {
  const char* name = nullptr;
  int last = 0;
  if (!PyArg_ParseTuple(layout, "snnnp|i", &name, &data.samples, &data.channels, &data.positions, &last, &data.threads))
    return false;
  data.channels_last = last != 0;
  constexpr std::ptrdiff_t most = PTRDIFF_MAX / static_cast<std::ptrdiff_t>(sizeof(double));  // in bytes, too
  const auto at_least_one = [](std::ptrdiff_t n) { return std::max<std::ptrdiff_t>(n, 1); };
  const std::ptrdiff_t size =
      product(at_least_one(data.samples), at_least_one(data.channels), at_least_one(data.positions));
  if (data.samples < 0 || data.channels < 0 || data.positions < 0 || size < 0 || size > most) {
    PyErr_Format(PyExc_ValueError, "norm: %zd samples, %zd channels, %zd positions", data.samples, data.channels,
                 data.positions);
    return false;
  }
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
  if (!without_gil(data.size(), [&] { run_moments(data, bytes_of(x), mean, squares); })) return nullptr;
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
  if (!without_gil(data.size(), [&] { run_activate(data, bytes_of(x), table, alpha, bytes_of(y)); })) return nullptr;
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
  const auto work = [&] { run_sums(data, bytes_of(grad), bytes_of(y), table, alpha, h, hu); };
  if (!without_gil(data.size(), work)) return nullptr;
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
  const auto work = [&] { run_combine(data, bytes_of(grad), bytes_of(y), table, alpha, bytes_of(out)); };
  if (!without_gil(data.size(), work)) return nullptr;
  Py_RETURN_NONE;
}

// The functions above take arrays and check them. Those below compute a whole layer in memory that leakyrelu.torch has
// just made or looked at: the data by address, and the numbers of the layer as (dtype, address), where dtype is an
// index of the enumeration DType; None is no numbers.
struct Numbers {
  DType dtype = DType::float64;
  char* at = nullptr;

  explicit operator bool() const { return at != nullptr; }

  bool take(PyObject* object) {
    if (object == Py_None) return true;
    int code = 0;
    Py_ssize_t address = 0;
    if (!PyTuple_Check(object)) {
      PyErr_Format(PyExc_TypeError, "norm: expected (dtype, address) or None, not %R", object);
      return false;
    }
    if (!PyArg_ParseTuple(object, "in", &code, &address)) return false;
    if (code < 0 || code >= norm_dtype_count) {
      PyErr_Format(PyExc_ValueError, "norm: there is no dtype %d", code);
      return false;
    }
    dtype = static_cast<DType>(code);
    at = reinterpret_cast<char*>(address);
    return true;
  }

  double read(std::ptrdiff_t i) const {
    switch (dtype) {
      case DType::half:
        return read_as<Half>(i);
      case DType::bfloat16:
        return read_as<BFloat16>(i);
      case DType::float32:
        return read_as<float>(i);
      default:
        return read_as<double>(i);
    }
  }
  void write(std::ptrdiff_t i, double value) const {
    switch (dtype) {
      case DType::half:
        return write_as<Half>(i, value);
      case DType::bfloat16:
        return write_as<BFloat16>(i, value);
      case DType::float32:
        return write_as<float>(i, value);
      default:
        return write_as<double>(i, value);
    }
  }
  std::vector<double> read_all(std::ptrdiff_t count) const {
    std::vector<double> values(static_cast<std::size_t>(at ? count : 0));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = read(static_cast<std::ptrdiff_t>(i));
    return values;
  }

 private:
  template <class T>
  double read_as(std::ptrdiff_t i) const {
    T value;  // at any address
    std::memcpy(&value, at + i * static_cast<std::ptrdiff_t>(sizeof value), sizeof value);
    return static_cast<double>(Number<T>::widen(value));
  }
  template <class T>
  void write_as(std::ptrdiff_t i, double value) const {
    const T narrow = Number<T>::narrow(static_cast<typename Number<T>::Compute>(value));
    std::memcpy(at + i * static_cast<std::ptrdiff_t>(sizeof narrow), &narrow, sizeof narrow);
  }
};

// The type that such data are computed in, and that their statistics are kept in.
DType compute_type(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

// (groups, estimate, alpha, weight, bias)
struct LayerArguments {
  NormLayer layer{};
  std::vector<double> weight, bias;

  bool take(PyObject* object, const NormData& data) {
    PyObject *w = nullptr, *b = nullptr;
    Numbers weights, biases;
    int estimate = 0;
    if (!PyArg_ParseTuple(object, "npdOO", &layer.groups, &estimate, &layer.alpha, &w, &b)) return false;
    layer.estimate = estimate != 0;
    if (layer.groups < 0 || (layer.groups > 0 && data.channels % layer.groups != 0)) {
      PyErr_Format(PyExc_ValueError, "norm: %zd groups of %zd channels", static_cast<Py_ssize_t>(layer.groups),
                   static_cast<Py_ssize_t>(data.channels));
      return false;
    }
    if (!weights.take(w) || !biases.take(b)) return false;
    const auto read = [&] {
      weight = weights.read_all(data.channels);
      bias = biases.read_all(data.channels);
    };
    if (!without_gil(0, read)) return false;  // too short to give the lock away
    layer.weight = weights ? weight.data() : nullptr;
    layer.bias = biases ? bias.data() : nullptr;
    return true;
  }
};

// Whether every channel can be told from its output: smallest <= |weight| <= largest and |bias| <= limit * |weight|.
bool all_invertible(const LayerArguments& layer, double smallest, double largest, double limit) {
  for (std::size_t c = 0; c < layer.weight.size(); ++c) {
    const double size = std::fabs(layer.weight[c]);
    if (!(size >= smallest && size <= largest)) return false;
    if (!layer.bias.empty() && !(std::fabs(layer.bias[c]) <= limit * size)) return false;
  }
  return true;
}

// A running statistic moves towards those of the batch, which are scaled, and averaged over the rows.
void move(const Numbers& running, const std::vector<double>& found, double scale, double factor,
          std::ptrdiff_t channels) {
  if (found.empty()) return;
  const auto rows = static_cast<std::ptrdiff_t>(found.size()) / channels;
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (std::ptrdiff_t row = 0; row < rows; ++row) sum += found[static_cast<std::size_t>(row * channels + c)];
    const double kept = running.read(c);
    running.write(c, kept + factor * (scale * sum / static_cast<double>(rows) - kept));
  }
}

PyObject* forward(PyObject*, PyObject* args) {
  Py_ssize_t x = 0, y = 0, invstd = 0;
  PyObject *running = nullptr, *layer_object = nullptr, *layout = nullptr;
  double eps = 0, smallest = 0, largest = 0, limit = 0;
  NormData data{};
  LayerArguments arguments;
  if (!PyArg_ParseTuple(args, "nnnOd(ddd)O!O!", &x, &y, &invstd, &running, &eps, &smallest, &largest, &limit,
                        &PyTuple_Type, &layer_object, &PyTuple_Type, &layout) ||
      !take_layout(layout, data) || !arguments.take(layer_object, data))
    return nullptr;
  const NormLayer& layer = arguments.layer;
  Numbers running_mean, running_var;
  double factor = 0;
  if (running != Py_None) {
    PyObject *kept_mean = nullptr, *kept_var = nullptr;
    if (!PyArg_ParseTuple(running, "OOd", &kept_mean, &kept_var, &factor) || !running_mean.take(kept_mean) ||
        !running_var.take(kept_var))
      return nullptr;
  }
  if (!layer.estimate && !(running_mean && running_var)) {
    PyErr_SetString(PyExc_ValueError, "norm: neither statistics nor leave to estimate them");
    return nullptr;
  }
  const npy_intp dims[2] = {layer.rows(data), data.channels};
  const std::ptrdiff_t each = dims[0] * dims[1];
  Ref table(PyArray_SimpleNew(2, dims, NPY_DOUBLE));
  if (!table) return nullptr;
  auto* mean = static_cast<double*>(PyArray_DATA(table.array()));
  const auto work = [&] {
    std::vector<double> var(static_cast<std::size_t>(each)), scale(var.size());
    if (!layer.estimate) {
      for (std::ptrdiff_t c = 0; c < each; ++c) mean[c] = running_mean.read(c);
      var = running_var.read_all(each);
    }
    auto* out = reinterpret_cast<char*>(y);
    advise_huge_pages(out, data.size() * size_of(data.dtype));
    run_forward(data, layer, eps, reinterpret_cast<const char*>(x), mean, var.data(), scale.data(), out);
    const Numbers kept{compute_type(data.dtype), reinterpret_cast<char*>(invstd)};
    for (std::ptrdiff_t i = 0; i < each; ++i) kept.write(i, scale[static_cast<std::size_t>(i)]);
    if (layer.estimate && factor != 0 && running_mean && running_var && each > 0) {  // there may be no sample
      const auto count =
          static_cast<double>(data.size() / (layer.groups == 0 ? data.channels : data.samples * layer.groups));
      move(running_mean, std::vector<double>(mean, mean + each), 1, factor, data.channels);
      move(running_var, var, count / (count - 1), factor, data.channels);
    }
  };
  if (!without_gil(data.size(), work)) return nullptr;
  if (all_invertible(arguments, smallest, largest, limit)) Py_RETURN_NONE;
  return table.release();
}

PyObject* backward(PyObject*, PyObject* args) {
  Py_ssize_t grad = 0, y = 0, invstd = 0, out = 0;
  PyObject *weight = nullptr, *bias = nullptr, *layer_object = nullptr, *layout = nullptr;
  NormData data{};
  LayerArguments arguments;
  Numbers grad_weight, grad_bias;
  if (!PyArg_ParseTuple(args, "nnnnOOO!O!", &grad, &y, &invstd, &out, &weight, &bias, &PyTuple_Type, &layer_object,
                        &PyTuple_Type, &layout) ||
      !take_layout(layout, data) || !arguments.take(layer_object, data) || !grad_weight.take(weight) ||
      !grad_bias.take(bias))
    return nullptr;
  const NormLayer& layer = arguments.layer;
  const auto work = [&] {
    const Numbers kept{compute_type(data.dtype), reinterpret_cast<char*>(invstd)};
    const std::vector<double> scale = kept.read_all(layer.rows(data) * data.channels);
    std::vector<double> of_weight(static_cast<std::size_t>(data.channels)), of_bias(of_weight.size());
    auto* grad_x = reinterpret_cast<char*>(out);
    if (grad_x != nullptr) advise_huge_pages(grad_x, data.size() * size_of(data.dtype));
    run_backward(data, layer, scale.data(), reinterpret_cast<const char*>(grad), reinterpret_cast<const char*>(y),
                 of_weight.data(), of_bias.data(), grad_x);
    for (std::ptrdiff_t c = 0; c < data.channels; ++c) {
      if (grad_weight) grad_weight.write(c, of_weight[static_cast<std::size_t>(c)]);
      if (grad_bias) grad_bias.write(c, of_bias[static_cast<std::size_t>(c)]);
    }
  };
  if (!without_gil(data.size(), work)) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace

PyMethodDef norm_methods[] = {
    {"norm_forward", forward, METH_VARARGS,
     "norm_forward(x, y, invstd, running, eps, bounds, layer, layout, /) -> mean, or None where all is invertible"},
    {"norm_backward", backward, METH_VARARGS,
     "norm_backward(grad, y, invstd, out, grad_weight, grad_bias, layer, layout, /)"},
    {"norm_moments", moments, METH_VARARGS, "norm_moments(x, layout, /) -> (mean, squares)"},
    {"norm_activate", activate, METH_VARARGS, "norm_activate(x, mean_scale_bias, alpha, y, layout, /)"},
    {"norm_sums", sums, METH_VARARGS, "norm_sums(grad, y, bias, alpha, layout, /) -> (h, hu)"},
    {"norm_combine", combine, METH_VARARGS, "norm_combine(grad, y, bias_p_q_r, alpha, out, layout, /)"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
