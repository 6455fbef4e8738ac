#include "ops/elementwise.h"

#include "runtime/dispatch.h"
#include "runtime/memory.h"
#include "runtime/thread_pool.h"

namespace leakyrelu {
namespace {

const Kernels& kernels(DType dtype, bool stream) {
  const KernelRow& row = active_row();
  return (stream ? row.streaming : row.of)[static_cast<int>(dtype)];
}

// Bytes that an element counts for when a run is split over threads: elements of 16 bits take as long as floats, to
// compute rather than to fetch. (2^16 of bfloat16 into the caller's output, AMD EPYC 25/17: 7.4 us by one thread, 5.4
// by two.)
std::ptrdiff_t weight(DType dtype) {
  constexpr auto least = static_cast<std::ptrdiff_t>(sizeof(float));
  return size_of(dtype) < least ? least : size_of(dtype);
}

bool in_place(char* const* data, int inputs) {
  for (int i = 0; i < inputs - 1; ++i)
    if (data[i] == data[inputs]) return true;
  return false;
}

// reduce() and accumulate() of a ufunc pass runs in which every element depends on the one before it.
bool reduces(const std::ptrdiff_t* stride, int inputs) { return stride[inputs] == 0; }
bool accumulates(char* const* data, const std::ptrdiff_t* stride, int inputs) {
  return data[0] + stride[inputs] == data[inputs] && stride[0] == stride[inputs];
}

}  // namespace

void run_strided(DType dtype, Loop Kernels::* operation, int inputs, char* const* data, const std::ptrdiff_t* stride,
                 std::ptrdiff_t n) {
  const std::ptrdiff_t size = size_of(dtype);
  if (n > 1 && accumulates(data, stride, inputs)) {
    char* at[4] = {};
    for (std::ptrdiff_t element = 0; element < n; ++element) {
      for (int i = 0; i <= inputs; ++i) at[i] = data[i] + element * stride[i];
      (kernels(dtype, false).*operation)(at, stride, 1);
    }
    return;
  }
  const Split pieces = split(n, inputs * weight(dtype));
  if (n <= pieces.piece || reduces(stride, inputs)) {
    (kernels(dtype, false).*operation)(data, stride, n);
    return;
  }
  const bool stream =
      stride[inputs] == size && !in_place(data, inputs) && should_stream((inputs - 1) * size * n, size * n);
  const Loop loop = kernels(dtype, stream).*operation;
  parallel_for(n, pieces, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    char* moved[4] = {};
    for (int i = 0; i <= inputs; ++i) moved[i] = data[i] + begin * stride[i];
    loop(moved, stride, end - begin);
  });
}

void run_dense(DType dtype, Loop Kernels::* operation, int inputs, char* const* data, const AlphaLayout& layout,
               std::ptrdiff_t n, Output output) {
  const std::ptrdiff_t size = size_of(dtype), alpha_size = alpha_size_of(dtype);
  const int alpha = inputs - 1;
  const bool stream = output == Output::callers && !in_place(data, inputs) && should_stream(alpha * size * n, size * n);
  const Loop loop = kernels(dtype, stream).*operation;
  parallel_for(n, split(n, inputs * weight(dtype)), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for_each_run(layout, begin, end, [&](auto first, auto which, auto step, auto count) {
      char* moved[4] = {};
      std::ptrdiff_t stride[4] = {};
      for (int i = 0; i <= inputs; ++i) {
        moved[i] = i == alpha ? data[i] + which * alpha_size : data[i] + first * size;
        stride[i] = i == alpha ? step * alpha_size : size;
      }
      loop(moved, stride, count);
    });
  });
}

void run_with_signs(DType dtype, const char* x, const char* alpha, const AlphaLayout& layout, char* y,
                    std::uint8_t* signs, std::ptrdiff_t n, Output output) {
  const std::ptrdiff_t size = size_of(dtype), alpha_size = alpha_size_of(dtype);
  const PackLoop loop =
      kernels(dtype, output == Output::callers && x != y && should_stream(size * n, size * n)).forward_with_signs;
  parallel_for(n, split(n, 2 * weight(dtype)), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for_each_run(layout, begin, end, [&](auto first, auto which, auto step, auto count) {
      loop(x + first * size, alpha + which * alpha_size, step, y + first * size, signs + first / 8, first % 8, count);
    });
  });
}

void run_from_signs(DType dtype, const char* grad, const std::uint8_t* signs, const char* alpha,
                    const AlphaLayout& layout, char* out, std::ptrdiff_t n, Output output) {
  const std::ptrdiff_t size = size_of(dtype), alpha_size = alpha_size_of(dtype);
  const UnpackLoop loop =
      kernels(dtype, output == Output::callers && grad != out && should_stream(size * n, size * n)).backward_from_signs;
  parallel_for(n, split(n, 2 * weight(dtype)), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for_each_run(layout, begin, end, [&](auto first, auto which, auto step, auto count) {
      loop(grad + first * size, signs + first / 8, first % 8, alpha + which * alpha_size, step, out + first * size,
           count);
    });
  });
}

}  // namespace leakyrelu
