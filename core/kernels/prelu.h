// Kernels of learned slopes: the pass of table.h as plain loops, in the tiles of tile.h.
#pragma once

#include "kernels/leaky_relu.h"
#include "kernels/table.h"
#include "kernels/tile.h"

namespace leakyrelu {
namespace {

// Sources of the sign of element j of a tile.
template <class C>
struct GivenSigns {
  bool at(ptrdiff_t, C value) const { return positive(value); }
};
struct TileSigns {
  const uint8_t* flags;
  template <class C>
  bool at(ptrdiff_t j, C) const {
    return flags[j] != 0;
  }
};

// Bits as bytes that are 0 or not. A byte of bits is repeated eight times, and of each copy one bit is kept.
struct Flags {
  uint8_t bytes[tile + 16];
  TileSigns take(const uint8_t* signs, ptrdiff_t first_bit, ptrdiff_t n) {
    const ptrdiff_t begin = first_bit >> 3, end = (first_bit + n + 7) >> 3;
    for (ptrdiff_t i = begin; i < end; ++i) {
      const std::uint64_t spread = (signs[i] * 0x0101010101010101u) & 0x8040201008040201u;
      std::memcpy(bytes + 8 * (i - begin), &spread, 8);
    }
    return {bytes + (first_bit & 7)};
  }
};

template <class T, class Signs, class Table>
inline Compute<T> prelu_run(const T* grad, const T* given, const Signs& signs, const Table& weight,
                            const Table& inverse, T* out, ptrdiff_t n) {
  using C = Compute<T>;
  C grad_buffer[tile], given_buffer[tile], out_buffer[tile];
  const C *g = widened(grad, n, grad_buffer), *v = widened(given, n, given_buffer);
  C sum = 0;
  if (out != nullptr) {
    C* to = target(out, out_buffer);
    LEAKYRELU_SUM(sum)
    for (ptrdiff_t j = 0; j < n; ++j) {
      const bool above = signs.at(j, v[j]);
      to[j] = Multiply::apply(g[j], slope<C>(above, weight.at(j)));
      sum += unless(above, g[j] * (v[j] * inverse.at(j)));
    }
    narrowed(to, out, n);
  } else {
    LEAKYRELU_SUM(sum)
    for (ptrdiff_t j = 0; j < n; ++j) sum += unless(signs.at(j, v[j]), g[j] * (v[j] * inverse.at(j)));
  }
  return sum;
}

template <class T, class Signs, class Table>
inline void prelu_row(const T* grad, const T* given, const Signs& signs, const Table& weight, const Table& inverse,
                      T* out, ptrdiff_t n, Compute<T>* sum) {
  using C = Compute<T>;
  C grad_buffer[tile], given_buffer[tile], out_buffer[tile];
  const C *g = widened(grad, n, grad_buffer), *v = widened(given, n, given_buffer);
  if (out != nullptr) {
    C* to = target(out, out_buffer);
    LEAKYRELU_INDEPENDENT
    for (ptrdiff_t j = 0; j < n; ++j) {
      const bool above = signs.at(j, v[j]);
      to[j] = Multiply::apply(g[j], slope<C>(above, weight.at(j)));
      sum[j] += unless(above, g[j] * (v[j] * inverse.at(j)));
    }
    narrowed(to, out, n);
  } else {
    LEAKYRELU_INDEPENDENT
    for (ptrdiff_t j = 0; j < n; ++j) sum[j] += unless(signs.at(j, v[j]), g[j] * (v[j] * inverse.at(j)));
  }
}

// Calls work(signs) with whichever source of signs there is.
template <class C, class Work>
inline void with_signs_of(Flags& flags, const uint8_t* signs, ptrdiff_t first_bit, ptrdiff_t n, const Work& work) {
  if (signs != nullptr)
    work(flags.take(signs, first_bit, n));
  else
    work(GivenSigns<C>{});
}

template <class T>
void prelu_backward(const void* grad, const void* given, const uint8_t* signs, ptrdiff_t first_bit, const void* weight,
                    const void* inverse, void* out, ptrdiff_t rows, ptrdiff_t channels, double* sum) {
  using C = Compute<T>;
  const auto *g = static_cast<const T*>(grad), *v = static_cast<const T*>(given);
  auto* to = static_cast<T*>(out);
  const auto at = [to](ptrdiff_t i) { return to == nullptr ? nullptr : to + i; };
  Flags flags;
  for (ptrdiff_t j = 0; j < channels; ++j) sum[j] = 0;
  if (channels == 1) {
    const OneAlpha<C> w(weight), inv(inverse);
    for (ptrdiff_t i = 0; i < rows; i += tile) {
      const ptrdiff_t n = least(tile, rows - i);
      with_signs_of<C>(flags, signs, first_bit + i, n, [&](const auto& source) {
        *sum += static_cast<double>(prelu_run(g + i, v + i, source, w, inv, at(i), n));
      });
    }
    return;
  }
  const Rows folded(rows, channels);
  const Repeated<C> w(weight, channels, folded), inv(inverse, channels, folded);
  for (ptrdiff_t column = 0; column < folded.width; column += tile) {
    const ptrdiff_t columns = least(tile, folded.width - column);
    for (ptrdiff_t begin = 0; begin < folded.full; begin += row_block) {
      const ptrdiff_t end = least(begin + row_block, folded.full);
      C part[tile] = {};
      for (ptrdiff_t row = begin; row < end; ++row) {
        const ptrdiff_t i = row * folded.width + column;
        with_signs_of<C>(flags, signs, first_bit + i, columns, [&](const auto& source) {
          prelu_row(g + i, v + i, source, w.from(column), inv.from(column), at(i), columns, part);
        });
      }
      for (ptrdiff_t j = 0; j < columns; ++j) sum[(column + j) % channels] += static_cast<double>(part[j]);
    }
  }
  if (folded.rest > 0) {
    const ptrdiff_t i = folded.full * folded.width;
    C part[tile] = {};
    with_signs_of<C>(flags, signs, first_bit + i, folded.rest, [&](const auto& source) {
      prelu_row(g + i, v + i, source, w.from(0), inv.from(0), at(i), folded.rest, part);
    });
    for (ptrdiff_t j = 0; j < folded.rest; ++j) sum[j % channels] += static_cast<double>(part[j]);
  }
}

}  // namespace
}  // namespace leakyrelu
