// Leaky ReLU with learned slopes on the memory of tensors (tensor_args.h).
#include "ops/prelu.h"
#include "python/errors.h"
#include "python/module_parts.h"
#include "python/tensor_args.h"
#include "runtime/huge_pages.h"

namespace leakyrelu {
namespace {

// `count` tables of one number a channel, in float64, one after the other.
struct Tables {
  Ref array;
  Table table{nullptr, 1};

  bool take(const char* function, PyObject* object, int count, const TensorLayout& data) {
    if (data.channels < 1) return refuse(PyExc_ValueError, function, "there is no channel, and so no slope");
    array = Ref(PyArray_FROMANY(object, NPY_DOUBLE, 0, 0, NPY_ARRAY_CARRAY_RO));
    if (!array) return false;
    if (PyArray_SIZE(array.array()) != count * data.channels)
      return refuse(PyExc_ValueError, function, "expected %s, not %R",
                    counted(count * data.channels, "number", "numbers").text, object);
    table.values = static_cast<const double*>(PyArray_DATA(array.array()));
    return true;
  }
};

std::uint8_t* as_signs(char* address) { return reinterpret_cast<std::uint8_t*>(address); }

PyObject* prelu_forward_at(PyObject*, PyObject* args) {
  TensorLayout data;
  PyObject* weight;
  char *x, *y, *signs;
  Tables tables;
  if (!PyArg_ParseTuple(args, "O&OO&O&O&:prelu_forward_at", take_layout, &data, &weight, take_address, &x, take_address,
                        &y, take_address, &signs) ||
      !tables.take("prelu_forward_at", weight, 1, data))
    return nullptr;
  const auto work = [&] {
    advise_huge_pages(y, data.size() * size_of(data.dtype));
    run_prelu_forward(data, tables.table, x, y, as_signs(signs));
  };
  if (!without_gil(data.size(), work)) return nullptr;
  Py_RETURN_NONE;
}

PyObject* prelu_backward_at(PyObject*, PyObject* args) {
  TensorLayout data;
  PyObject* weight_and_inverse;
  char *grad, *given, *signs, *out;
  Tables tables;
  if (!PyArg_ParseTuple(args, "O&OO&O&O&O&:prelu_backward_at", take_layout, &data, &weight_and_inverse, take_address,
                        &grad, take_address, &given, take_address, &signs, take_address, &out) ||
      !tables.take("prelu_backward_at", weight_and_inverse, 2, data))
    return nullptr;
  const npy_intp dims[1] = {data.channels};
  Ref sums(PyArray_SimpleNew(1, dims, NPY_DOUBLE));
  if (!sums) return nullptr;
  const auto work = [&] {
    if (out != nullptr) advise_huge_pages(out, data.size() * size_of(data.dtype));
    run_prelu_backward(data, tables.table, grad, given, as_signs(signs), out,
                       static_cast<double*>(PyArray_DATA(sums.array())));
  };
  if (!without_gil(data.size(), work)) return nullptr;
  return sums.release();
}

}  // namespace

PyMethodDef tensor_prelu_methods[] = {
    {"prelu_forward_at", prelu_forward_at, METH_VARARGS,
     "prelu_forward_at($module, layout, weight, x, y, signs, /)\n--\n\n"
     "Write Leaky ReLU with one slope a channel to y, and where signs is not 0 the packed signs of x."},
    {"prelu_backward_at", prelu_backward_at, METH_VARARGS,
     "prelu_backward_at($module, layout, tables, grad, given, signs, out, /)\n--\n\n"
     "Write the gradient to out, where that is not 0, and return that of the slopes. Tables: slopes and their "
     "inverse."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace leakyrelu
