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

// The numbers of a layer as (dtype, address), where dtype is an index of the enumeration DType; None is no numbers.
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

// (channels, xhat, h, layout of the two), the first three by address; None: no channel was kept.
bool take_kept(PyObject* object, KeptChannels& kept) {
  if (object == Py_None) return true;
  Py_ssize_t channels = 0, xhat = 0, h = 0;
  PyObject* layout = nullptr;
  if (!PyTuple_Check(object)) {
    PyErr_Format(PyExc_TypeError, "norm: expected (channels, xhat, h, layout) or None, not %R", object);
    return false;
  }
  if (!PyArg_ParseTuple(object, "nnnO!", &channels, &xhat, &h, &PyTuple_Type, &layout) ||
      !take_layout(layout, kept.data))
    return false;
  kept.channels = reinterpret_cast<const std::int64_t*>(channels);
  kept.xhat = reinterpret_cast<const char*>(xhat);
  kept.h = reinterpret_cast<char*>(h);
  return true;
}

PyObject* backward(PyObject*, PyObject* args) {
  Py_ssize_t grad = 0, y = 0, invstd = 0, out = 0;
  PyObject *weight = nullptr, *bias = nullptr, *kept_object = nullptr, *layer_object = nullptr, *layout = nullptr;
  NormData data{};
  LayerArguments arguments;
  KeptChannels kept_channels{};
  Numbers grad_weight, grad_bias;
  if (!PyArg_ParseTuple(args, "nnnnOOOO!O!", &grad, &y, &invstd, &out, &weight, &bias, &kept_object, &PyTuple_Type,
                        &layer_object, &PyTuple_Type, &layout) ||
      !take_layout(layout, data) || !arguments.take(layer_object, data) || !grad_weight.take(weight) ||
      !grad_bias.take(bias) || !take_kept(kept_object, kept_channels))
    return nullptr;
  const NormLayer& layer = arguments.layer;
  const auto work = [&] {
    const Numbers kept{compute_type(data.dtype), reinterpret_cast<char*>(invstd)};
    const std::vector<double> scale = kept.read_all(layer.rows(data) * data.channels);
    std::vector<double> of_weight(static_cast<std::size_t>(data.channels)), of_bias(of_weight.size());
    auto* grad_x = reinterpret_cast<char*>(out);
    if (grad_x != nullptr) advise_huge_pages(grad_x, data.size() * size_of(data.dtype));
    run_backward(data, layer, scale.data(), kept_channels, reinterpret_cast<const char*>(grad),
                 reinterpret_cast<const char*>(y), of_weight.data(), of_bias.data(), grad_x);
    for (std::ptrdiff_t c = 0; c < data.channels; ++c) {
      if (grad_weight) grad_weight.write(c, of_weight[static_cast<std::size_t>(c)]);
      if (grad_bias) grad_bias.write(c, of_bias[static_cast<std::size_t>(c)]);
    }
  };
  if (!without_gil(data.size(), work)) return nullptr;
  Py_RETURN_NONE;
}

}  // namespace

PyMethodDef tensor_norm_methods[] = {
    {"norm_forward", forward, METH_VARARGS,
     "norm_forward(x, y, invstd, running, eps, bounds, layer, layout, /) -> mean, or None where all is invertible"},
    {"norm_backward", backward, METH_VARARGS,
     "norm_backward(grad, y, invstd, out, grad_weight, grad_bias, kept, layer, layout, /)"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
