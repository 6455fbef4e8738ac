#include "python/dtypes.h"

#include <cstring>

#include "python/errors.h"

namespace leakyrelu {
namespace {

bool is_subclass(PyArray_DTypeMeta* dtype, PyArray_DTypeMeta* base) {
  return PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(dtype), reinterpret_cast<PyTypeObject*>(base)) != 0;
}

const char* last_part(const char* name) {
  const char* dot = std::strrchr(name, '.');
  return dot == nullptr ? name : dot + 1;
}

const char* name_of(PyArray_DTypeMeta* dtype) {
  // dtype classes have a scalar type ("str_", "complex128"); the abstract ones of Python numbers have none.
  const auto* type = reinterpret_cast<PyTypeObject*>(dtype);
  return last_part(dtype->scalar_type != nullptr ? dtype->scalar_type->tp_name : type->tp_name);
}

const char* remedy_for(PyArray_DTypeMeta* dtype) {
  const char kind = dtype->singleton != nullptr ? dtype->singleton->kind : '?';
  if (kind == 'c' || is_subclass(dtype, &PyArray_ComplexAbstractDType))
    return "Leaky ReLU is not defined on complex numbers: apply it to .real and .imag";
  if (kind == 'V') return "apply it to one field of a structured array: x['name']";
  if (kind == 'M' || kind == 'm') return "a time has no slope: convert it to numbers in a unit of your choice first";
  return "convert with .astype(numpy.float64), and look for None or text among the values";
}

}  // namespace

bool is_integer(PyArray_DTypeMeta* dtype) {
  return dtype == &PyArray_BoolDType || is_subclass(dtype, &PyArray_IntAbstractDType);
}

bool is_bfloat16(PyArray_DTypeMeta* dtype) {
  // Not part of NumPy: importing the package ml_dtypes registers it. So it is recognized by its name and size.
  const PyTypeObject* scalar = dtype->scalar_type;
  return scalar != nullptr && dtype->singleton != nullptr && PyTypeNum_ISUSERDEF(dtype->singleton->type_num) &&
         PyDataType_ELSIZE(dtype->singleton) == 2 && std::strcmp(last_part(scalar->tp_name), "bfloat16") == 0;
}

bool is_real(PyArray_DTypeMeta* dtype) {
  return is_integer(dtype) || is_subclass(dtype, &PyArray_FloatAbstractDType) || is_bfloat16(dtype);
}

PyArray_DTypeMeta* compute_dtype(PyArray_DTypeMeta* data) {
  if (is_integer(data) || data == &PyArray_PyFloatDType) return &PyArray_DoubleDType;
  if (data == &PyArray_HalfDType || data == &PyArray_FloatDType || data == &PyArray_DoubleDType ||
      data == &PyArray_LongDoubleDType || is_bfloat16(data))
    return data;
  return nullptr;
}

PyArray_DTypeMeta* alpha_dtype(PyArray_DTypeMeta* data) {
  return data == &PyArray_HalfDType || is_bfloat16(data) ? &PyArray_FloatDType : data;
}

DType index_of(PyArray_DTypeMeta* dtype) {
  if (dtype == &PyArray_FloatDType) return DType::float32;
  if (dtype == &PyArray_DoubleDType) return DType::float64;
  if (dtype == &PyArray_HalfDType) return DType::half;
  if (dtype == &PyArray_LongDoubleDType) return DType::longdouble;
  return DType::bfloat16;
}

int refuse_dtype(const char* function, const char* operand, PyArray_DTypeMeta* dtype) {
  refuse(PyExc_TypeError, function,
         "%s of type %s is not supported, only real numbers are (bool, integers, float16, bfloat16, float32, float64, "
         "longdouble); %s",
         operand, name_of(dtype), remedy_for(dtype));
  return -1;
}

int refuse_result(const char* function, PyArray_DTypeMeta* dtype) {
  refuse(PyExc_TypeError, function,
         "a result of type %s (dtype=) is not supported; the function computes in float16, bfloat16, float32, float64 "
         "and longdouble, so ask for one of these and convert the result with .astype()",
         name_of(dtype));
  return -1;
}

}  // namespace leakyrelu
