#include "python/packed_signs.h"

#include "python/operands.h"

namespace leakyrelu {
namespace {

bool check_count(const char* function, Py_ssize_t count, Py_ssize_t least, Py_ssize_t most) {
  if (count >= least && count <= most) return true;
  PyErr_Format(PyExc_TypeError, "%s takes %zd to %zd positional arguments but %zd were given", function, least, most,
               count);
  return false;
}

// The signs of `size` elements, as a uint8 array of one axis in C order.
Ref take_signs(const char* function, PyObject* object, std::ptrdiff_t size) {
  if (!PyArray_Check(object) || PyArray_TYPE(reinterpret_cast<PyArrayObject*>(object)) != NPY_UINT8) {
    PyErr_Format(PyExc_TypeError,
                 "%s: signs must be the uint8 array that leaky_relu_with_signs returned, not %s; pack a boolean mask "
                 "with numpy.packbits(mask, bitorder='little')",
                 function, Py_TYPE(object)->tp_name);
    return {};
  }
  auto* signs = reinterpret_cast<PyArrayObject*>(object);
  const std::ptrdiff_t needed = (size + 7) / 8;
  if (PyArray_NDIM(signs) != 1 || PyArray_SIZE(signs) != needed) {
    PyErr_Format(
        PyExc_ValueError,
        "%s: signs has %d axes and %zd bytes, but a gradient of %zd elements needs 1 axis and %zd bytes; give the "
        "signs that were returned for an input of the same shape",
        function, PyArray_NDIM(signs), static_cast<Py_ssize_t>(PyArray_SIZE(signs)), static_cast<Py_ssize_t>(size),
        static_cast<Py_ssize_t>(needed));
    return {};
  }
  return Ref(PyArray_FROM_OF(object, NPY_ARRAY_CARRAY_RO));
}

}  // namespace

PyObject* leaky_relu_with_signs(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* name = "leaky_relu_with_signs";
  if (!check_count(name, count, 2, 3)) return nullptr;
  PyObject* out = count > 2 ? args[2] : nullptr;
  Data x;
  Alpha alpha;
  Target y;
  if (!take_data(name, "x", args[0], x) || !take_alpha(name, args[1], x, alpha) ||
      !y.take(name, out, x, &alpha.array, nullptr))
    return nullptr;
  const npy_intp bytes = (x.size() + 7) / 8;
  Ref signs(PyArray_SimpleNew(1, &bytes, NPY_UINT8));
  if (!signs) return nullptr;
  auto* sign_bytes = reinterpret_cast<std::uint8_t*>(PyArray_BYTES(signs.array()));
  if (bytes > 0) sign_bytes[bytes - 1] = 0;  // the trailing bits

  FloatingPointFlags flags(name, x.dtype);
  const auto work = [&] {
    run_with_signs(x.dtype, x.bytes(), alpha.bytes(), alpha.layout, y.bytes(), sign_bytes, x.size(), y.kind());
  };
  if (!without_gil(x.size(), work)) return nullptr;
  const int raised = flags.raised();
  if (!y.finish() || !flags.report(raised)) return nullptr;
  return PyTuple_Pack(2, y.get(), signs.get());
}

PyObject* leaky_relu_backward_from_signs(PyObject*, PyObject* const* args, Py_ssize_t count) {
  constexpr const char* name = "leaky_relu_backward_from_signs";
  if (!check_count(name, count, 3, 4)) return nullptr;
  PyObject* out = count > 3 ? args[3] : nullptr;
  Data grad;
  Alpha alpha;
  Target result;
  if (!take_data(name, "grad", args[0], grad)) return nullptr;
  Ref signs = take_signs(name, args[1], grad.size());
  if (!signs || !take_alpha(name, args[2], grad, alpha) || !result.take(name, out, grad, &alpha.array, &signs))
    return nullptr;

  FloatingPointFlags flags(name, grad.dtype);
  const auto* sign_bytes = reinterpret_cast<const std::uint8_t*>(PyArray_BYTES(signs.array()));
  const auto work = [&] {
    run_from_signs(grad.dtype, grad.bytes(), sign_bytes, alpha.bytes(), alpha.layout, result.bytes(), grad.size(),
                   result.kind());
  };
  if (!without_gil(grad.size(), work)) return nullptr;
  const int raised = flags.raised();
  if (!result.finish() || !flags.report(raised)) return nullptr;
  Py_INCREF(result.get());
  return result.get();
}

}  // namespace leakyrelu
