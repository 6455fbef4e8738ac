// The dtypes of the core, in the order of the kernel table.
#pragma once

#include <cstddef>

namespace leakyrelu {

enum class DType : int { half, bfloat16, float32, float64, longdouble };
constexpr int dtype_count = 5;
constexpr int tensor_dtype_count = 4;  // the first ones: no framework has tensors of longdouble
constexpr const char* dtype_names[dtype_count] = {"float16", "bfloat16", "float32", "float64", "longdouble"};

namespace {

// Bytes of an element.
constexpr std::ptrdiff_t size_of(DType dtype) {
  constexpr std::ptrdiff_t sizes[dtype_count] = {2, 2, sizeof(float), sizeof(double), sizeof(long double)};
  return sizes[static_cast<int>(dtype)];
}

// Bytes of an alpha, which has the compute type.
constexpr std::ptrdiff_t alpha_size_of(DType dtype) {
  return dtype == DType::half || dtype == DType::bfloat16 ? static_cast<std::ptrdiff_t>(sizeof(float)) : size_of(dtype);
}

}  // namespace
}  // namespace leakyrelu
