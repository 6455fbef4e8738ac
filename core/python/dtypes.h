// The rule of dtypes (docs/definition.md) for NumPy's type objects: what is computed in what, and what is refused.
#pragma once

#include "kernels/table.h"
#include "python/numpy_api.h"

namespace leakyrelu {

bool is_integer(PyArray_DTypeMeta* dtype);  // bool counts
bool is_bfloat16(PyArray_DTypeMeta* dtype);
bool is_real(PyArray_DTypeMeta* dtype);

// The dtype in which such data are computed (borrowed), or null where there is none.
PyArray_DTypeMeta* compute_dtype(PyArray_DTypeMeta* data);

// The dtype of alpha beside data that are computed in this dtype.
PyArray_DTypeMeta* alpha_dtype(PyArray_DTypeMeta* data);

// The row index of a dtype that compute_dtype() returned.
DType index_of(PyArray_DTypeMeta* dtype);

// Raises TypeError: value, cause and remedy. Always returns -1.
int refuse_dtype(const char* function, const char* operand, PyArray_DTypeMeta* dtype);
int refuse_result(const char* function, PyArray_DTypeMeta* dtype);

}  // namespace leakyrelu
