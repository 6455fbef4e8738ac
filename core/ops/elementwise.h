// Whole elementwise operations: the kernel of the active row, split over threads, with streaming stores where they pay.
#pragma once

#include "kernels/table.h"
#include "ops/layout.h"

namespace leakyrelu {

// As a NumPy inner loop (table.h): `inputs` inputs, alpha last among them, then the output.
void run_strided(DType dtype, Loop Kernels::* operation, int inputs, char* const* data, const std::ptrdiff_t* stride,
                 std::ptrdiff_t n);

// The owner of the output, which decides how it is written (memory.h).
enum class Output { callers, fresh };

// One alpha, in the type in which data of that dtype are computed.
class ScalarAlpha {
 public:
  ScalarAlpha() = default;
  ScalarAlpha(DType dtype, double value) { set(dtype, value); }

  // In place: to copy a number that was just written in part stalls the processor, for
  // a tenth of the time of a call of one element (AMD EPYC 25/17: python -m benchmarks compare, one element with out=).
  void set(DType dtype, double value) {
    if (dtype == DType::float64)
      number_.twice = value;
    else if (dtype == DType::longdouble)
      number_.extended = value;
    else
      number_.single = static_cast<float>(value);
  }
  const char* bytes() const { return reinterpret_cast<const char*>(&number_); }

 private:
  union {
    float single;
    double twice;
    long double extended;
  } number_;
};

// On contiguous operands; `layout` says which alpha belongs to which element.
void run_dense(DType dtype, Loop Kernels::* operation, int inputs, char* const* data, const AlphaLayout& layout,
               std::ptrdiff_t n, Output output);

void run_with_signs(DType dtype, const char* x, const char* alpha, const AlphaLayout& layout, char* y,
                    std::uint8_t* signs, std::ptrdiff_t n, Output output);
void run_from_signs(DType dtype, const char* grad, const std::uint8_t* signs, const char* alpha,
                    const AlphaLayout& layout, char* out, std::ptrdiff_t n, Output output);

}  // namespace leakyrelu
