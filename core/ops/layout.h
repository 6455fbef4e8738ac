// Layouts of operands: how alpha broadcasts over data in C order, and how the data of a tensor with channels lie.
#pragma once

#include <cstddef>

#include "kernels/dtype.h"

namespace leakyrelu {

// How alpha broadcasts over data in C order, seen as [outer][channels][inner] with one alpha a channel. One alpha for
// all is a single channel; one alpha an element has no inner axis; a slope per channel has both.
struct AlphaLayout {
  std::ptrdiff_t outer = 1;
  std::ptrdiff_t channels = 1;
  std::ptrdiff_t inner = 1;
};

// Data as [samples][channels][positions], or as [samples][positions][channels] with the channels last.
struct TensorLayout {
  DType dtype;
  std::ptrdiff_t samples, channels, positions;
  bool channels_last;
  int threads;  // at most so many; 0: as many as are allowed

  std::ptrdiff_t size() const { return samples * channels * positions; }
};

// Tables of doubles, [samples][channels] or, with one row, for all samples.
struct Table {
  const double* values;
  std::ptrdiff_t rows;
};

// The layout of one alpha a channel over such data.
inline AlphaLayout channel_layout(const TensorLayout& data) {
  return data.channels_last ? AlphaLayout{data.samples * data.positions, data.channels, 1}
                            : AlphaLayout{data.samples, data.channels, data.positions};
}

// How many elements a * b * c are, none of which is negative; -1 where that is more than can be counted.
inline std::ptrdiff_t product(std::ptrdiff_t a, std::ptrdiff_t b, std::ptrdiff_t c) {
  std::ptrdiff_t of_two, all;
  if (a == 0 || b == 0 || c == 0) return 0;
  return __builtin_mul_overflow(a, b, &of_two) || __builtin_mul_overflow(of_two, c, &all) ? -1 : all;
}

// Calls run(first, alpha_index, alpha_step, count) for the pieces of [begin, end) within which alpha is constant
// (alpha_step 0) or advances by one an element (alpha_step 1).
template <class Run>
void for_each_run(const AlphaLayout& layout, std::ptrdiff_t begin, std::ptrdiff_t end, Run run) {
  if (layout.channels == 1) {
    if (begin < end) run(begin, std::ptrdiff_t(0), std::ptrdiff_t(0), end - begin);
    return;
  }
  const std::ptrdiff_t step = layout.inner == 1 ? 1 : 0;
  const std::ptrdiff_t length = step ? layout.channels : layout.inner;
  while (begin < end) {
    const std::ptrdiff_t within = begin % length;
    const std::ptrdiff_t rest = length - within;
    const std::ptrdiff_t count = rest < end - begin ? rest : end - begin;
    const std::ptrdiff_t alpha = step ? within : begin / length % layout.channels;
    run(begin, alpha, step, count);
    begin += count;
  }
}

}  // namespace leakyrelu
