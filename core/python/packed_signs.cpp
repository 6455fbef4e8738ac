// Leaky ReLU with packed signs, as functions on arrays.
#include "python/errors.h"
#include "python/module_parts.h"
#include "python/operands.h"

namespace leakyrelu {
namespace {

// The signs of `size` elements, as a uint8 array of one axis in C order.
Ref take_signs(const char* function, PyObject* object, std::ptrdiff_t size) {
  if (!PyArray_Check(object) || PyArray_TYPE(reinterpret_cast<PyArrayObject*>(object)) != NPY_UINT8) {
    refuse(PyExc_TypeError, function,
           "signs must be the uint8 array that leaky_relu_with_signs returned, not %s; pack a boolean mask with "
           "numpy.packbits(mask, bitorder='little')",
           Py_TYPE(object)->tp_name);
    return {};
  }
  auto* signs = reinterpret_cast<PyArrayObject*>(object);
  const std::ptrdiff_t needed = (size + 7) / 8;
  if (PyArray_NDIM(signs) != 1 || PyArray_SIZE(signs) != needed) {
    refuse(PyExc_ValueError, function,
           "signs has %s and %s, but a gradient of %s needs 1 axis and %s; give the signs that were returned for an "
           "input of the same shape",
           counted(PyArray_NDIM(signs), "axis", "axes").text, counted(PyArray_SIZE(signs), "byte", "bytes").text,
           counted(size, "element", "elements").text, counted(needed, "byte", "bytes").text);
    return {};
  }
  return Ref(PyArray_FROM_OF(object, NPY_ARRAY_CARRAY_RO));
}

PyObject* leaky_relu_with_signs(PyObject*, PyObject* args) {
  constexpr const char* name = "leaky_relu_with_signs";
  PyObject *x_object, *alpha_object, *out = nullptr;
  if (!PyArg_ParseTuple(args, "OO|O:leaky_relu_with_signs", &x_object, &alpha_object, &out)) return nullptr;
  Data x;
  Alpha alpha;
  Target y;
  if (!take_data(name, "x", x_object, x) || !take_alpha(name, alpha_object, x, alpha) ||
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

PyObject* leaky_relu_backward_from_signs(PyObject*, PyObject* args) {
  constexpr const char* name = "leaky_relu_backward_from_signs";
  PyObject *grad_object, *sign_object, *alpha_object, *out = nullptr;
  if (!PyArg_ParseTuple(args, "OOO|O:leaky_relu_backward_from_signs", &grad_object, &sign_object, &alpha_object, &out))
    return nullptr;
  Data grad;
  Alpha alpha;
  Target result;
  if (!take_data(name, "grad", grad_object, grad)) return nullptr;
  Ref signs = take_signs(name, sign_object, grad.size());
  if (!signs || !take_alpha(name, alpha_object, grad, alpha) || !result.take(name, out, grad, &alpha.array, &signs))
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

}  // namespace

PyMethodDef packed_signs_methods[] = {
    {"leaky_relu_with_signs", leaky_relu_with_signs, METH_VARARGS,
     "leaky_relu_with_signs($module, x, alpha, out=None, /)\n--\n\nReturn y and the packed signs of x."},
    {"leaky_relu_backward_from_signs", leaky_relu_backward_from_signs, METH_VARARGS,
     "leaky_relu_backward_from_signs($module, grad, signs, alpha, out=None, /)\n--\n\nReturn the gradient of x."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
