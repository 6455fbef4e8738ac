#include "ops/prelu.h"

#include <vector>

#include "ops/elementwise.h"
#include "ops/pieces.h"
#include "runtime/dispatch.h"

namespace leakyrelu {

void run_prelu_forward(const TensorLayout& data, Table weight, const char* x, char* y, std::uint8_t* signs) {
  const AlphaLayout layout = channel_layout(data);
  const ThreadLimit limit(data.threads);
  const std::ptrdiff_t n = data.size();
  const Converted table(data, weight, 1);
  const void* slopes = nullptr;
  table.at(Runs(data), 0, &slopes);
  const auto* alpha = static_cast<const char*>(slopes);
  if (signs != nullptr) {
    if (n > 0) signs[(n - 1) / 8] = 0;  // the trailing bits
    run_with_signs(data.dtype, x, alpha, layout, y, signs, n, Output::fresh);
  } else {
    char* operands[4] = {const_cast<char*>(x), const_cast<char*>(alpha), y};
    run_dense(data.dtype, &Kernels::forward, 2, operands, layout, n, Output::fresh);
  }
}

void run_prelu_backward(const TensorLayout& data, Table tables, const char* grad, const char* given,
                        const std::uint8_t* signs, char* out, double* sums) {
  const Runs runs(data);
  const auto kernel = active_row().prelu_backward[static_cast<int>(data.dtype)];
  const std::ptrdiff_t size = size_of(data.dtype);
  const Converted table(data, tables, 2);
  std::vector<double> parts(static_cast<std::size_t>(runs.count * runs.pieces * runs.width));
  runs.for_each_piece([&](auto run, auto piece, auto first, auto rows) {
    const void* part[2];
    table.at(runs, run, part);
    kernel(grad + first * size, given + first * size, signs, first, part[0], part[1],
           out == nullptr ? nullptr : out + first * size, rows, runs.width,
           parts.data() + (run * runs.pieces + piece) * runs.width);
  });
  for (std::ptrdiff_t c = 0; c < data.channels; ++c) sums[c] = 0;
  for (std::ptrdiff_t i = 0; i < runs.count * runs.pieces; ++i)
    for (std::ptrdiff_t j = 0; j < runs.width; ++j)
      sums[(i / runs.pieces * runs.width + j) % data.channels] += parts[static_cast<std::size_t>(i * runs.width + j)];
}

}  // namespace leakyrelu
