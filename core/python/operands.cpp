#include "python/operands.h"

#include <cfenv>

#if defined(LEAKYRELU_X86)
#include <immintrin.h>
#endif

#include "python/dtypes.h"
#include "python/errors.h"
#include "runtime/huge_pages.h"

namespace leakyrelu {
namespace {

PyArray_DTypeMeta* dtype_class(PyArrayObject* array) {
  return reinterpret_cast<PyArray_DTypeMeta*>(Py_TYPE(PyArray_DESCR(array)));
}

PyArray_Descr* descriptor(PyArray_DTypeMeta* dtype) {
  Py_INCREF(dtype->singleton);
  return dtype->singleton;
}

// A Python integer of any size is converted to the dtype of the computation directly, as in a ufunc: on its own NumPy
// makes an object array of it where 64 bits do not hold it.
Ref to_array(PyObject* object, PyArray_DTypeMeta* of_integers) {
  return Ref(PyLong_Check(object) ? PyArray_FromAny(object, descriptor(of_integers), 0, 0, 0, nullptr)
                                  : PyArray_FROM_O(object));
}

// Replaces the array by a copy, where it overlaps that memory.
bool move_out_of(PyArrayObject* memory, Ref& array) {
  if (!array || !share_memory(memory, array.array())) return true;
  array = Ref(PyArray_NewCopy(array.array(), NPY_CORDER));
  return static_cast<bool>(array);
}

bool broadcast_error(const char* function, PyArrayObject* alpha, PyArrayObject* data) {
  Ref alpha_shape(PyObject_GetAttrString(reinterpret_cast<PyObject*>(alpha), "shape"));
  Ref data_shape(PyObject_GetAttrString(reinterpret_cast<PyObject*>(data), "shape"));
  if (alpha_shape && data_shape)
    refuse(PyExc_ValueError, function,
           "alpha of shape %S does not broadcast to data of shape %S; give one number, or an array whose trailing axes "
           "match (a slope per channel of N, C, H, W data has shape (C, 1, 1))",
           alpha_shape.get(), data_shape.get());
  return false;
}

// Fills alpha.layout. Returns 1, or 0 where alpha does not fit, or -1 where it varies along axes that are not
// neighbors.
int find_layout(PyArrayObject* alpha, PyArrayObject* data, AlphaLayout& layout) {
  const int axes = PyArray_NDIM(data), missing = axes - PyArray_NDIM(alpha);
  if (missing < 0) return 0;
  const npy_intp* dims = PyArray_DIMS(data);
  const auto alpha_dim = [&](int axis) { return axis < missing ? npy_intp(1) : PyArray_DIM(alpha, axis - missing); };
  int first = axes, last = -1;
  for (int axis = 0; axis < axes; ++axis) {
    if (alpha_dim(axis) == dims[axis] && dims[axis] != 1) {
      first = axis < first ? axis : first;
      last = axis;
    } else if (alpha_dim(axis) != 1) {
      return 0;
    }
  }
  layout = {};
  for (int axis = 0; axis < axes; ++axis) {
    if (axis >= first && axis <= last) {
      if (alpha_dim(axis) != dims[axis]) return -1;
      layout.channels *= dims[axis];
    } else {
      (axis < first && last >= 0 ? layout.outer : layout.inner) *= dims[axis];
    }
  }
  return 1;
}

}  // namespace

bool take_data(const char* function, const char* operand, PyObject* object, Data& data) {
  Ref any = to_array(object, &PyArray_DoubleDType);
  if (!any) return false;
  PyArray_DTypeMeta* given = dtype_class(any.array());
  PyArray_DTypeMeta* dtype = compute_dtype(given);
  if (dtype == nullptr) {
    refuse_dtype(function, operand, given);
    return false;
  }
  data.dtype = index_of(dtype);
  data.array = Ref(PyArray_FromArray(any.array(), descriptor(dtype), NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED));
  return static_cast<bool>(data.array);
}

bool take_alpha(const char* function, PyObject* object, const Data& data, Alpha& alpha) {
  PyArray_DTypeMeta* dtype = alpha_dtype(dtype_class(data.get()));
  Ref any = to_array(object, dtype);
  if (!any) return false;
  if (!is_real(dtype_class(any.array()))) {
    refuse_dtype(function, "alpha", dtype_class(any.array()));
    return false;
  }
  const int flags = NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST;
  alpha.array = Ref(PyArray_FromArray(any.array(), descriptor(dtype), flags));
  if (!alpha.array) return false;
  if (PyArray_SIZE(alpha.array.array()) == 1 && PyArray_NDIM(alpha.array.array()) <= PyArray_NDIM(data.get())) {
    alpha.layout = {1, 1, data.size()};
    return true;
  }
  const int fits = find_layout(alpha.array.array(), data.get(), alpha.layout);
  if (fits == 0) return broadcast_error(function, alpha.array.array(), data.get());
  if (fits < 0) {
    // Rare (a slope for each pair of two axes that are not adjacent): expanded to one alpha an element.
    Ref spread(PyArray_SimpleNewFromDescr(PyArray_NDIM(data.get()), PyArray_DIMS(data.get()), descriptor(dtype)));
    if (!spread || PyArray_CopyInto(spread.array(), alpha.array.array()) < 0) return false;
    alpha.array = static_cast<Ref&&>(spread);
    alpha.layout = {1, data.size(), 1};
  }
  return true;
}

bool share_memory(PyArrayObject* a, PyArrayObject* b) {
  const char *a_begin = PyArray_BYTES(a), *b_begin = PyArray_BYTES(b);
  return a_begin < b_begin + PyArray_NBYTES(b) && b_begin < a_begin + PyArray_NBYTES(a);
}

Target::~Target() {
  if (array_) PyArray_DiscardWritebackIfCopy(array_.array());
}

bool Target::take(const char* function, PyObject* object, Data& data, Ref* alpha, Ref* signs) {
  PyArrayObject* like = data.get();
  if (object == nullptr || object == Py_None) {
    Py_INCREF(PyArray_DESCR(like));
    const HugePageHint hint(PyArray_NBYTES(like));
    array_ = Ref(PyArray_NewFromDescr(&PyArray_Type, PyArray_DESCR(like), PyArray_NDIM(like), PyArray_DIMS(like),
                                      nullptr, nullptr, 0, nullptr));
    return static_cast<bool>(array_);
  }
  if (!PyArray_Check(object))
    return refuse(PyExc_TypeError, function, "out must be a NumPy array, not %s", Py_TYPE(object)->tp_name);
  auto* out = reinterpret_cast<PyArrayObject*>(object);
  if (!PyArray_SAMESHAPE(out, like) || !PyArray_EquivTypes(PyArray_DESCR(out), PyArray_DESCR(like))) {
    Ref out_shape(PyObject_GetAttrString(object, "shape"));
    Ref shape(PyObject_GetAttrString(data.array.get(), "shape"));
    if (out_shape && shape)
      refuse(PyExc_ValueError, function, "out has shape %S and dtype %S, but the result has shape %S and dtype %S",
             out_shape.get(), PyArray_DESCR(out), shape.get(), PyArray_DESCR(like));
    return false;
  }
  if (PyArray_FailUnlessWriteable(out, "out") < 0) return false;
  Py_INCREF(PyArray_DESCR(like));
  array_ = Ref(PyArray_FromArray(out, PyArray_DESCR(like), NPY_ARRAY_CARRAY | NPY_ARRAY_WRITEBACKIFCOPY));
  if (!array_) return false;
  Py_INCREF(object);
  callers_ = Ref(object);
  const bool in_place = PyArray_BYTES(array_.array()) == data.bytes();
  return (in_place || move_out_of(array_.array(), data.array)) &&
         (alpha == nullptr || move_out_of(array_.array(), *alpha)) &&
         (signs == nullptr || move_out_of(array_.array(), *signs));
}

bool Target::finish() { return PyArray_ResolveWritebackIfCopy(array_.array()) >= 0; }

#if defined(LEAKYRELU_X86)
// The status bits of the SSE unit, which does all the arithmetic but that of longdouble. The C library's functions also
// save and restore the x87 unit, which takes longer than a short run.
constexpr unsigned sse_flags = 0x3f;
#endif

FloatingPointFlags::FloatingPointFlags(const char* function, DType dtype) : function_(function), dtype_(dtype) {
#if defined(LEAKYRELU_X86)
  if (const unsigned control = _mm_getcsr(); control & sse_flags) _mm_setcsr(control & ~sse_flags);
  if (dtype_ != DType::longdouble) return;
#endif
  std::feclearexcept(FE_ALL_EXCEPT);
}

int FloatingPointFlags::raised() const {
  constexpr int reported = FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW | FE_INVALID;
#if defined(LEAKYRELU_X86)
  if (dtype_ != DType::longdouble) return static_cast<int>(_mm_getcsr()) & reported;
#endif
  return std::fetestexcept(reported);
}

bool FloatingPointFlags::report(int raised) const {
  if (raised == 0) return true;
  const int numpy = (raised & FE_DIVBYZERO ? NPY_FPE_DIVIDEBYZERO : 0) | (raised & FE_OVERFLOW ? NPY_FPE_OVERFLOW : 0) |
                    (raised & FE_UNDERFLOW ? NPY_FPE_UNDERFLOW : 0) | (raised & FE_INVALID ? NPY_FPE_INVALID : 0);
  return PyUFunc_GiveFloatingpointErrors(function_, numpy) == 0;
}

}  // namespace leakyrelu
