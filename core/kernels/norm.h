// Kernels of normalization: the passes of table.h as plain loops, compiled once for each instruction set, around the
// definition of the element in leaky_relu.h.
#pragma once

#include <limits>

#include "kernels/leaky_relu.h"
#include "kernels/moments.h"
#include "kernels/table.h"
#include "kernels/tile.h"

namespace leakyrelu {
namespace {

// What follows from an element of the output: the gradient of the input of the activation (h), and xhat * weight (u).
template <class C>
struct Recovered {
  C h, u;
  Recovered(C grad, C y, C bias, C alpha) {
    const C s = slope<C>(positive(y), alpha);
    h = Multiply::apply(grad, s);
    u = Divide::apply(y, s) - bias;
  }
};

// Element by element -------------------------------------------------------------------------------------------------

template <class T, class Table>
inline void activate_tile(const T* x, const Table& mean, const Table& scale, const Table& bias, Compute<T> alpha, T* y,
                          ptrdiff_t n) {
  using C = Compute<T>;
  C x_buffer[tile], y_buffer[tile];
  const C* from = widened(x, n, x_buffer);
  C* to = target(y, y_buffer);
  LEAKYRELU_INDEPENDENT
  for (ptrdiff_t j = 0; j < n; ++j) {
    const C v = (from[j] - mean.at(j)) * scale.at(j) + bias.at(j);
    to[j] = Multiply::apply(v, slope<C>(positive(v), alpha));
  }
  narrowed(to, y, n);
}

template <class T>
void norm_activate(const void* x, const void* const table[3], double alpha, void* y, ptrdiff_t rows,
                   ptrdiff_t channels) {
  using C = Compute<T>;
  const auto* from = static_cast<const T*>(x);
  auto* to = static_cast<T*>(y);
  const C a = static_cast<C>(alpha);
  if (channels == 1) {
    const OneAlpha<C> mean(table[0]), scale(table[1]), bias(table[2]);
    for (ptrdiff_t i = 0; i < rows; i += tile)
      activate_tile(from + i, mean, scale, bias, a, to + i, least(tile, rows - i));
    return;
  }
  const Rows folded(rows, channels);
  const Repeated<C> mean(table[0], channels, folded), scale(table[1], channels, folded),
      bias(table[2], channels, folded);
  for_each_tile(folded, [&](ptrdiff_t i, ptrdiff_t c, ptrdiff_t n) {
    activate_tile(from + i, mean.from(c), scale.from(c), bias.from(c), a, to + i, n);
  });
}

template <class T, class Table>
inline void combine_tile(const T* grad, const T* y, const Table& bias, const Table& p, const Table& q, const Table& r,
                         Compute<T> alpha, T* out, ptrdiff_t n) {
  using C = Compute<T>;
  C grad_buffer[tile], y_buffer[tile], out_buffer[tile];
  const C *g = widened(grad, n, grad_buffer), *v = widened(y, n, y_buffer);
  C* to = target(out, out_buffer);
  LEAKYRELU_INDEPENDENT
  for (ptrdiff_t j = 0; j < n; ++j) {
    const Recovered<C> recovered(g[j], v[j], bias.at(j), alpha);
    // Without q, as where the statistics are given, an infinite u adds nothing.
    to[j] = recovered.h * p.at(j) + (unless(q.at(j) == 0, recovered.u * q.at(j)) + r.at(j));
  }
  narrowed(to, out, n);
}

template <class T>
void norm_combine(const void* grad, const void* y, const void* const table[4], double alpha, void* out, ptrdiff_t rows,
                  ptrdiff_t channels) {
  using C = Compute<T>;
  const auto *g = static_cast<const T*>(grad), *from = static_cast<const T*>(y);
  auto* to = static_cast<T*>(out);
  const C a = static_cast<C>(alpha);
  if (channels == 1) {
    const OneAlpha<C> bias(table[0]), p(table[1]), q(table[2]), r(table[3]);
    for (ptrdiff_t i = 0; i < rows; i += tile)
      combine_tile(g + i, from + i, bias, p, q, r, a, to + i, least(tile, rows - i));
    return;
  }
  const Rows folded(rows, channels);
  const Repeated<C> bias(table[0], channels, folded), p(table[1], channels, folded), q(table[2], channels, folded),
      r(table[3], channels, folded);
  for_each_tile(folded, [&](ptrdiff_t i, ptrdiff_t c, ptrdiff_t n) {
    combine_tile(g + i, from + i, bias.from(c), p.from(c), q.from(c), r.from(c), a, to + i, n);
  });
}

// Moments ------------------------------------------------------------------------------------------------------------

// The second sum of a block goes over distances from its rounded mean; the rounding error of the mean is corrected
// afterwards.
template <class C>
inline void merge_block(double count, double& mean, double& squares, double n, C center, C off, C square) {
  const double shift = static_cast<double>(off) / n;
  merge(count, mean, squares, n, center + shift, square > shift * off ? square - shift * off : 0.0);
}

// Where the squares of a block leave the range of the type that computes: the block in double. NaN comes here too, and
// infinities, which the mean is to keep.
template <class T>
bool merge_wide(const T* x, ptrdiff_t n, ptrdiff_t stride, double count, double& mean, double& squares,
                Compute<T> square) {
  constexpr auto infinity = std::numeric_limits<Compute<T>>::infinity();
  if (__builtin_isless(square, infinity)) return false;
  double center = 0, own = 0;
  for (ptrdiff_t i = 0; i < n; ++i) center += Number<T>::widen(x[i * stride]);
  center /= static_cast<double>(n);
  for (ptrdiff_t i = 0; i < n; ++i) {
    const double d = Number<T>::widen(x[i * stride]) - center;
    own += d * d;
  }
  merge(count, mean, squares, static_cast<double>(n), center, own);
  return true;
}

template <class T>
void run_moments(const T* x, ptrdiff_t n, double& mean, double& squares) {
  using C = Compute<T>;
  for (ptrdiff_t i = 0; i < n; i += run_block) {
    const ptrdiff_t length = least(run_block, n - i);
    C buffer[run_block];
    const C* v = widened(x + i, length, buffer);
    C sum = 0, off = 0, square = 0;
    LEAKYRELU_SUM(sum)
    for (ptrdiff_t j = 0; j < length; ++j) sum += v[j];
    const C center = sum / static_cast<C>(length);
    LEAKYRELU_SUM(off, square)
    for (ptrdiff_t j = 0; j < length; ++j) {
      const C d = v[j] - center;
      off += d;
      square += d * d;
    }
    const auto before = static_cast<double>(i);
    if (!merge_wide(x + i, length, 1, before, mean, squares, square))
      merge_block<C>(before, mean, squares, static_cast<double>(length), center, off, square);
  }
}

// Columns of `rows` rows that lie `stride` apart; at most a tile of them.
template <class T>
void column_moments(const T* x, ptrdiff_t rows, ptrdiff_t stride, ptrdiff_t columns, double* mean, double* squares) {
  using C = Compute<T>;
  for (ptrdiff_t begin = 0; begin < rows; begin += row_block) {
    const ptrdiff_t length = least(row_block, rows - begin);
    const T* block = x + begin * stride;
    C buffer[tile], center[tile] = {}, off[tile] = {}, square[tile] = {};
    for (ptrdiff_t i = 0; i < length; ++i) {
      const C* v = widened(block + i * stride, columns, buffer);
      for (ptrdiff_t j = 0; j < columns; ++j) center[j] += v[j];
    }
    for (ptrdiff_t j = 0; j < columns; ++j) center[j] /= static_cast<C>(length);
    for (ptrdiff_t i = 0; i < length; ++i) {
      const C* v = widened(block + i * stride, columns, buffer);
      for (ptrdiff_t j = 0; j < columns; ++j) {
        const C d = v[j] - center[j];
        off[j] += d;
        square[j] += d * d;
      }
    }
    const auto before = static_cast<double>(begin);
    for (ptrdiff_t j = 0; j < columns; ++j)
      if (!merge_wide(block + j, length, stride, before, mean[j], squares[j], square[j]))
        merge_block<C>(before, mean[j], squares[j], static_cast<double>(length), center[j], off[j], square[j]);
  }
}

template <class T>
void norm_moments(const void* x, ptrdiff_t rows, ptrdiff_t channels, double* mean, double* squares) {
  const auto* from = static_cast<const T*>(x);
  for (ptrdiff_t j = 0; j < channels; ++j) mean[j] = squares[j] = 0;
  if (channels == 1) return run_moments(from, rows, *mean, *squares);
  const Rows folded(rows, channels);
  if (folded.fold == 1) {
    for (ptrdiff_t c = 0; c < channels; c += tile)
      column_moments(from + c, rows, channels, least(tile, channels - c), mean + c, squares + c);
    return;
  }
  double means[tile] = {}, sums[tile] = {};
  column_moments(from, folded.full, folded.width, folded.width, means, sums);
  const auto full = static_cast<double>(folded.full);
  for (ptrdiff_t j = 0; j < folded.width; ++j)
    merge(static_cast<double>(j / channels) * full, mean[j % channels], squares[j % channels], full, means[j], sums[j]);
  for (ptrdiff_t j = 0; j < folded.rest; ++j) {
    const auto before = static_cast<double>(folded.fold * folded.full + j / channels);
    const double value = Number<T>::widen(from[folded.full * folded.width + j]);
    merge(before, mean[j % channels], squares[j % channels], 1.0, value, 0.0);
  }
}

// Sums of the gradient -----------------------------------------------------------------------------------------------

template <class T>
void run_sums(const T* grad, const T* y, Compute<T> bias, Compute<T> alpha, ptrdiff_t n, double& sum_h,
              double& sum_hu) {
  using C = Compute<T>;
  for (ptrdiff_t i = 0; i < n; i += run_block) {
    const ptrdiff_t length = least(run_block, n - i);
    C grad_buffer[run_block], y_buffer[run_block];
    const C *g = widened(grad + i, length, grad_buffer), *v = widened(y + i, length, y_buffer);
    C h = 0, hu = 0;
    LEAKYRELU_SUM(h, hu)
    for (ptrdiff_t j = 0; j < length; ++j) {
      const Recovered<C> recovered(g[j], v[j], bias, alpha);
      h += recovered.h;
      hu += recovered.h * recovered.u;
    }
    sum_h += h;
    sum_hu += hu;
  }
}

template <class T>
void column_sums(const T* grad, const T* y, const AlphaEach<Compute<T>>& bias, Compute<T> alpha, ptrdiff_t rows,
                 ptrdiff_t stride, ptrdiff_t columns, double* sum_h, double* sum_hu) {
  using C = Compute<T>;
  for (ptrdiff_t begin = 0; begin < rows; begin += row_block) {
    const ptrdiff_t end = least(begin + row_block, rows);
    C grad_buffer[tile], y_buffer[tile], h[tile] = {}, hu[tile] = {};
    for (ptrdiff_t i = begin; i < end; ++i) {
      const C *g = widened(grad + i * stride, columns, grad_buffer), *v = widened(y + i * stride, columns, y_buffer);
      LEAKYRELU_INDEPENDENT
      for (ptrdiff_t j = 0; j < columns; ++j) {
        const Recovered<C> recovered(g[j], v[j], bias.at(j), alpha);
        h[j] += recovered.h;
        hu[j] += recovered.h * recovered.u;
      }
    }
    for (ptrdiff_t j = 0; j < columns; ++j) {
      sum_h[j] += h[j];
      sum_hu[j] += hu[j];
    }
  }
}

template <class T>
void norm_sums(const void* grad, const void* y, const void* bias, double alpha, ptrdiff_t rows, ptrdiff_t channels,
               double* sum_h, double* sum_hu) {
  using C = Compute<T>;
  const auto *g = static_cast<const T*>(grad), *v = static_cast<const T*>(y);
  const C a = static_cast<C>(alpha);
  for (ptrdiff_t j = 0; j < channels; ++j) sum_h[j] = sum_hu[j] = 0;
  if (channels == 1) return run_sums(g, v, load<C>(bias), a, rows, *sum_h, *sum_hu);
  const Rows folded(rows, channels);
  const Repeated<C> table(bias, channels, folded);
  if (folded.fold == 1) {
    for (ptrdiff_t c = 0; c < channels; c += tile)
      column_sums(g + c, v + c, table.from(c), a, rows, channels, least(tile, channels - c), sum_h + c, sum_hu + c);
    return;
  }
  double h[tile] = {}, hu[tile] = {};
  const ptrdiff_t done = folded.full * folded.width;
  column_sums(g, v, table.from(0), a, folded.full, folded.width, folded.width, h, hu);
  column_sums(g + done, v + done, table.from(0), a, folded.rest > 0, folded.width, folded.rest, h, hu);
  for (ptrdiff_t j = 0; j < folded.width; ++j) {
    sum_h[j % channels] += h[j];
    sum_hu[j % channels] += hu[j];
  }
}

}  // namespace
}  // namespace leakyrelu
