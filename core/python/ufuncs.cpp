// Registration of the ufuncs: their dtypes, and which of these serves given operands.
//
// The rule of dtypes (docs/definition.md): the data decide, alpha never does. Integers and bool compute in float64. So
// each ufunc has one loop a floating dtype, and one promoter that sends every other combination of operands to one of
// them or refuses it by name. NumPy's own machinery then does casting, broadcasting, overlap, out=, where= and dtype=.

#include <array>
#include <cstring>

#include "ops/elementwise.h"
#include "python/dtypes.h"
#include "python/module_parts.h"

namespace leakyrelu {
namespace {

constexpr int max_operands = 4;

template <DType dtype, Loop Kernels::* operation>
int strided_loop(PyArrayMethod_Context*, char* const* data, const npy_intp* length, const npy_intp* strides,
                 NpyAuxData*) {
  constexpr int inputs = operation == &Kernels::backward ? 3 : 2;
  run_strided(dtype, operation, inputs, data, strides, *length);
  return 0;
}

struct Loops {
  PyArray_DTypeMeta* data;
  PyArray_DTypeMeta* alpha;
  std::array<PyArrayMethod_StridedLoop*, 3> of_operation;  // forward, backward, inverse
};

template <DType dtype>
Loops loops_of(PyArray_DTypeMeta* data, PyArray_DTypeMeta* alpha) {
  return {data,
          alpha,
          {strided_loop<dtype, &Kernels::forward>, strided_loop<dtype, &Kernels::backward>,
           strided_loop<dtype, &Kernels::inverse>}};
}

int add_loops(PyObject* ufunc, int operation, const Loops& loops) {
  const int inputs = operation == 1 ? 3 : 2;
  std::array<PyArray_DTypeMeta*, max_operands> dtypes{};
  for (int i = 0; i < inputs; ++i) dtypes[i] = loops.data;
  dtypes[inputs - 1] = loops.alpha;
  dtypes[inputs] = loops.data;
  PyType_Slot slots[] = {
      {NPY_METH_strided_loop, reinterpret_cast<void*>(loops.of_operation[operation])},
      {0, nullptr},
  };
  PyArrayMethod_Spec spec = {};
  spec.name = "leakyrelu";
  spec.nin = inputs;
  spec.nout = 1;
  spec.casting = NPY_NO_CASTING;
  spec.flags = static_cast<NPY_ARRAYMETHOD_FLAGS>(0);
  spec.dtypes = dtypes.data();
  spec.slots = slots;
  return PyUFunc_AddLoopFromSpec(ufunc, &spec);
}

struct Spec {
  const char* name;
  int inputs;
  const char* doc;
};

constexpr Spec specs[] = {
    {"leaky_relu", 2, "leaky_relu(x, alpha): x where x > 0, alpha * x otherwise."},
    {"leaky_relu_backward", 3, "leaky_relu_backward(grad, x, alpha): grad where x > 0, alpha * grad otherwise."},
    {"leaky_relu_inverse", 2, "leaky_relu_inverse(y, alpha): y where y > 0, y / alpha otherwise."},
};

int operation_of(PyObject* ufunc) {
  int operation = 0;
  while (std::strcmp(specs[operation].name, reinterpret_cast<PyUFuncObject*>(ufunc)->name) != 0) ++operation;
  return operation;
}

// Adds the loop of bfloat16 when the first such array arrives at a ufunc; NumPy asks once for a combination of
// operands. A loop that exists already (a TypeError of NumPy) is no error. No state is kept outside of the ufunc,
// because the module may be imported again, and then creates new ufuncs beside the first ones.
int register_bfloat16(PyObject* ufunc, PyArray_DTypeMeta* dtype) {
  if (add_loops(ufunc, operation_of(ufunc), loops_of<DType::bfloat16>(dtype, &PyArray_FloatDType)) == 0) return 0;
  if (!PyErr_ExceptionMatches(PyExc_TypeError)) return -1;
  PyErr_Clear();
  return 0;
}

int promote(PyObject* ufunc, PyArray_DTypeMeta* const operands[], PyArray_DTypeMeta* const signature[],
            PyArray_DTypeMeta* chosen[]) {
  const int inputs = reinterpret_cast<PyUFuncObject*>(ufunc)->nin;
  const char* name = reinterpret_cast<PyUFuncObject*>(ufunc)->name;
  const int alpha = inputs - 1, output = inputs;
  const bool is_backward = inputs == 3;

  for (int i = 0; i < alpha; ++i) {
    const char* operand = i == 0 && is_backward ? "grad" : operation_of(ufunc) == 2 ? "y" : "x";
    if (compute_dtype(operands[i]) == nullptr) return refuse_dtype(name, operand, operands[i]);
  }
  if (!is_real(operands[alpha])) return refuse_dtype(name, "alpha", operands[alpha]);

  PyArray_DTypeMeta* data = signature[output];
  if (data == nullptr) {
    Ref common;
    if (is_backward) {
      common = Ref(reinterpret_cast<PyObject*>(PyArray_CommonDType(operands[0], operands[1])));
      if (!common) return -1;
    }
    data = compute_dtype(is_backward ? reinterpret_cast<PyArray_DTypeMeta*>(common.get()) : operands[0]);
    if (data == nullptr) return refuse_dtype(name, "grad and x together", operands[0]);
  } else if (is_integer(data) || compute_dtype(data) != data) {
    return refuse_result(name, data);
  }
  if (is_bfloat16(data) && register_bfloat16(ufunc, data) < 0) return -1;

  for (int i = 0; i <= output; ++i) {
    PyArray_DTypeMeta* dtype = signature[i] != nullptr ? signature[i] : i == alpha ? alpha_dtype(data) : data;
    Py_INCREF(dtype);
    chosen[i] = dtype;
  }
  return 0;
}

PyObject* make_ufunc(int operation) {
  const Spec& spec = specs[operation];
  Ref ufunc(
      PyUFunc_FromFuncAndData(nullptr, nullptr, nullptr, 0, spec.inputs, 1, PyUFunc_None, spec.name, spec.doc, 0));
  if (!ufunc) return nullptr;
  const Loops all[] = {
      loops_of<DType::float32>(&PyArray_FloatDType, &PyArray_FloatDType),
      loops_of<DType::float64>(&PyArray_DoubleDType, &PyArray_DoubleDType),
      loops_of<DType::half>(&PyArray_HalfDType, &PyArray_FloatDType),
      loops_of<DType::longdouble>(&PyArray_LongDoubleDType, &PyArray_LongDoubleDType),
  };
  for (const Loops& loops : all) {
    if (add_loops(ufunc.get(), operation, loops) < 0) return nullptr;
  }
  // np.dtype itself for every operand: each combination that no loop takes as it is comes to the promoter.
  Ref any(PyTuple_New(spec.inputs + 1));
  if (!any) return nullptr;
  for (int i = 0; i <= spec.inputs; ++i) {
    Py_INCREF(&PyArrayDescr_Type);
    PyTuple_SET_ITEM(any.get(), i, reinterpret_cast<PyObject*>(&PyArrayDescr_Type));
  }
  Ref promoter(PyCapsule_New(reinterpret_cast<void*>(&promote), "numpy._ufunc_promoter", nullptr));
  if (!promoter || PyUFunc_AddPromoter(ufunc.get(), any.get(), promoter.get()) < 0) return nullptr;
  return ufunc.release();
}

}  // namespace

int add_ufuncs(PyObject* module) {
  for (int operation = 0; operation < 3; ++operation) {
    Ref ufunc(make_ufunc(operation));
    if (!ufunc || PyModule_AddObjectRef(module, specs[operation].name, ufunc.get()) < 0) return -1;
  }
  return 0;
}

}  // namespace leakyrelu
