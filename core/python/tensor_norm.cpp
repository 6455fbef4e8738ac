// Normalization followed by a Leaky ReLU, as a whole layer, on the memory of tensors (tensor_args.h).
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/number.h"
#include "ops/norm.h"
#include "python/errors.h"
#include "python/module_parts.h"
#include "python/tensor_args.h"
#include "runtime/huge_pages.h"

namespace leakyrelu {
namespace {

constexpr const char* forward_name = "norm_forward_at";
constexpr const char* backward_name = "norm_backward_at";

// The numbers of a tensor of one axis, such as a weight.
struct Numbers {
  DType dtype = DType::float64;
  char* at = nullptr;

  explicit operator bool() const { return at != nullptr; }

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
    T value;  // copied, since the address may not be aligned
    std::memcpy(&value, at + i * static_cast<std::ptrdiff_t>(sizeof value), sizeof value);
    return static_cast<double>(Number<T>::widen(value));
  }
  template <class T>
  void write_as(std::ptrdiff_t i, double value) const {
    const T narrow = Number<T>::narrow(static_cast<typename Number<T>::Compute>(value));
    std::memcpy(at + i * static_cast<std::ptrdiff_t>(sizeof narrow), &narrow, sizeof narrow);
  }
};

// Converter for "O&": a Numbers, from (dtype, address), where dtype is a code of _core.DTYPES; None is no numbers.
int take_numbers(PyObject* object, void* numbers) {
  constexpr const char* name = "numbers of a tensor";
  auto& taken = *static_cast<Numbers*>(numbers);
  if (object == Py_None) return 1;
  int code = 0;
  if (!PyTuple_Check(object)) return refuse(PyExc_TypeError, name, "expected (dtype, address) or None, not %R", object);
  if (!PyArg_ParseTuple(object, "iO&;numbers of a tensor: (dtype, address)", &code, take_address, &taken.at)) return 0;
  if (!is_tensor_dtype(code))
    return refuse(PyExc_ValueError, name, "there is no dtype %d; take one of _core.DTYPES", code);
  taken.dtype = static_cast<DType>(code);
  return 1;
}

// The type in which such data are computed, and their statistics kept.
DType compute_type(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

// The settings and parameters of a layer.
struct LayerArguments {
  NormLayer layer{};
  std::vector<double> weight, bias;

  // From (groups, estimate, slope, weight, bias).
  bool take(const char* function, PyObject* object, const TensorLayout& data) {
    Numbers weights, biases;
    int estimate = 0;
    if (!PyArg_ParseTuple(object, "npdO&O&", &layer.groups, &estimate, &layer.alpha, take_numbers, &weights,
                          take_numbers, &biases))
      return false;
    layer.estimate = estimate != 0;
    if (layer.groups < 0 || (layer.groups > 0 && data.channels % layer.groups != 0))
      return refuse(PyExc_ValueError, function, "%s of %s; the channels must divide evenly",
                    counted(layer.groups, "group", "groups").text, counted(data.channels, "channel", "channels").text);
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

// The running statistics of a layer, and the weight with which a batch enters them.
struct RunningArguments {
  Numbers mean, var;
  double factor = 0;

  // From (mean, var, factor), or None.
  bool take(PyObject* object) {
    return object == Py_None || PyArg_ParseTuple(object, "O&O&d", take_numbers, &mean, take_numbers, &var, &factor);
  }
  explicit operator bool() const { return mean && var; }
};

// Whether every channel can be recovered from its output:
// smallest <= |weight| <= largest and |bias| <= limit * |weight| * spread, in every row of the table of spreads. The
// same condition as in leakyrelu.torch.activations.invertible, which finds the channels where it fails.
bool all_invertible(const LayerArguments& layer, double smallest, double largest, double limit, const double* spread,
                    std::ptrdiff_t rows) {
  const std::size_t channels = layer.weight.size();
  for (std::size_t c = 0; c < channels; ++c) {
    const double size = std::fabs(layer.weight[c]);
    if (!(size >= smallest && size <= largest)) return false;
    if (layer.bias.empty()) continue;
    for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row)
      if (!(std::fabs(layer.bias[c]) <= limit * size * spread[row * channels + c])) return false;
  }
  return true;
}

// Moves a running statistic towards that of the batch, which is scaled, and averaged over the rows of its table.
void move(const Numbers& running, const std::vector<double>& found, double scale, double factor,
          std::ptrdiff_t channels) {
  if (found.empty()) return;
  const auto rows = static_cast<std::ptrdiff_t>(found.size()) / channels;
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (std::ptrdiff_t row = 0; row < rows; ++row) sum += found[static_cast<std::size_t>(row * channels + c)];
    const double kept = running.read(c);
    running.write(c, (1 - factor) * kept + factor * (scale * sum / static_cast<double>(rows)));
  }
}

PyObject* norm_forward_at(PyObject*, PyObject* args) {
  TensorLayout data{};
  LayerArguments arguments;
  RunningArguments running;
  PyObject *layer_object, *running_object;
  double eps, smallest, largest, limit;
  char *x, *y, *invstd;
  if (!PyArg_ParseTuple(args, "O&O!d(ddd)OO&O&O&:norm_forward_at", take_layout, &data, &PyTuple_Type, &layer_object,
                        &eps, &smallest, &largest, &limit, &running_object, take_address, &x, take_address, &y,
                        take_address, &invstd) ||
      !arguments.take(forward_name, layer_object, data) || !running.take(running_object))
    return nullptr;
  const NormLayer& layer = arguments.layer;
  if (!layer.estimate && !running) {
    refuse(PyExc_ValueError, forward_name, "no statistics; give running ones, or estimate them");
    return nullptr;
  }
  const npy_intp dims[3] = {2, layer.rows(data), data.channels};
  const std::ptrdiff_t each = dims[1] * dims[2];
  Ref table(PyArray_SimpleNew(3, dims, NPY_DOUBLE));  // of the means, and of the spread of the normalized input
  if (!table) return nullptr;
  auto* mean = static_cast<double*>(PyArray_DATA(table.array()));
  double* spread = mean + each;
  const auto work = [&] {
    std::vector<double> var(static_cast<std::size_t>(each)), scale(var.size());
    if (!layer.estimate) {
      for (std::ptrdiff_t c = 0; c < each; ++c) mean[c] = running.mean.read(c);
      var = running.var.read_all(each);
    }
    advise_huge_pages(y, data.size() * size_of(data.dtype));
    run_forward(data, layer, eps, x, mean, var.data(), scale.data(), y);
    const Numbers kept{compute_type(data.dtype), invstd};
    for (std::ptrdiff_t i = 0; i < each; ++i) {
      const auto k = static_cast<std::size_t>(i);
      kept.write(i, scale[k]);
      spread[i] = layer.estimate ? std::sqrt(var[k]) * scale[k] : 1.0;
    }
    if (layer.estimate && running.factor != 0 && running && each > 0) {  // there may be no sample
      const auto count =
          static_cast<double>(data.size() / (layer.groups == 0 ? data.channels : data.samples * layer.groups));
      move(running.mean, std::vector<double>(mean, mean + each), 1, running.factor, data.channels);
      move(running.var, var, count / (count - 1), running.factor, data.channels);
    }
  };
  if (!without_gil(data.size(), work)) return nullptr;
  if (all_invertible(arguments, smallest, largest, limit, spread, layer.rows(data))) Py_RETURN_NONE;
  return table.release();
}

// From (layout of xhat and h, channels, xhat, h), the last three by address; None: no channel was kept.
bool take_kept(PyObject* object, KeptChannels& kept) {
  if (object == Py_None) return true;
  char *channels, *xhat;
  if (!PyTuple_Check(object))
    return refuse(PyExc_TypeError, backward_name, "expected (layout, channels, xhat, h) or None, not %R", object);
  if (!PyArg_ParseTuple(object, "O&O&O&O&", take_layout, &kept.data, take_address, &channels, take_address, &xhat,
                        take_address, &kept.h))
    return false;
  kept.channels = reinterpret_cast<const std::int64_t*>(channels);
  kept.xhat = xhat;
  return true;
}

PyObject* norm_backward_at(PyObject*, PyObject* args) {
  TensorLayout data{};
  LayerArguments arguments;
  KeptChannels kept{};
  Numbers grad_weight, grad_bias;
  PyObject *layer_object, *kept_object;
  char *grad, *y, *invstd, *out;
  if (!PyArg_ParseTuple(args, "O&O!OO&O&O&O&O&O&:norm_backward_at", take_layout, &data, &PyTuple_Type, &layer_object,
                        &kept_object, take_address, &grad, take_address, &y, take_address, &invstd, take_address, &out,
                        take_numbers, &grad_weight, take_numbers, &grad_bias) ||
      !arguments.take(backward_name, layer_object, data) || !take_kept(kept_object, kept))
    return nullptr;
  const NormLayer& layer = arguments.layer;
  const auto work = [&] {
    const std::vector<double> scale =
        Numbers{compute_type(data.dtype), invstd}.read_all(layer.rows(data) * data.channels);
    std::vector<double> of_weight(static_cast<std::size_t>(data.channels)), of_bias(of_weight.size());
    if (out != nullptr) advise_huge_pages(out, data.size() * size_of(data.dtype));
    run_backward(data, layer, scale.data(), kept, grad, y, of_weight.data(), of_bias.data(), out);
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
    {"norm_forward_at", norm_forward_at, METH_VARARGS,
     "norm_forward_at($module, layout, layer, eps, bounds, running, x, y, invstd, /)\n--\n\n"},
    {"norm_backward_at", norm_backward_at, METH_VARARGS,
     "norm_backward_at($module, layout, layer, kept, grad, y, invstd, out, grad_weight, grad_bias, /)\n--\n\n"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
