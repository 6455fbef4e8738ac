// Tiles: stretches of one row in the compute type, in which the kernels with a table a channel do their work.
//
// Tables are one number (a run of one channel) or one a column. Rows of few channels are taken several at a time, as
// one longer row over repeated tables, so that a tile is long enough for vectors.
#pragma once

#include <type_traits>

#include "kernels/convert.h"
#include "kernels/loop.h"

namespace leakyrelu {
namespace {

constexpr ptrdiff_t tile = 256;        // columns of a tile
constexpr ptrdiff_t run_block = 1024;  // elements of one channel that are summed in the compute type
constexpr ptrdiff_t row_block = 64;    // and rows

// Not std::min, because that has external linkage (number.h says why that matters).
inline ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

template <class T>
constexpr bool is_wide = std::is_same_v<T, Compute<T>>;

// `n` numbers in the compute type: in place, or in the buffer.
template <class T>
inline const Compute<T>* widened(const T* from, ptrdiff_t n, [[maybe_unused]] Compute<T>* buffer) {
  if constexpr (is_wide<T>) {
    return from;
  } else {
    ptrdiff_t j = 0;
    for (; j + 32 <= n; j += 32) widen_block<T, 32>(from + j, buffer + j);
    for (; j < n; ++j) buffer[j] = Number<T>::widen(from[j]);
    return buffer;
  }
}

template <class T>
inline Compute<T>* target(T* to, [[maybe_unused]] Compute<T>* buffer) {
  if constexpr (is_wide<T>)
    return to;
  else
    return buffer;
}

template <class T>
inline void narrowed([[maybe_unused]] const Compute<T>* buffer, [[maybe_unused]] T* to, [[maybe_unused]] ptrdiff_t n) {
  if constexpr (!is_wide<T>) {
    ptrdiff_t j = 0;
    for (; j + 32 <= n; j += 32) narrow_block<T, 32>(buffer + j, to + j);
    for (; j < n; ++j) to[j] = Number<T>::narrow(buffer[j]);
  }
}

// Rows of few channels, several at a time ----------------------------------------------------------------------------

struct Rows {
  ptrdiff_t fold, width, full, rest;  // rows in one, its numbers, how many such, and the numbers left over
  Rows(ptrdiff_t rows, ptrdiff_t channels) {
    fold = channels > tile ? 1 : least(tile / channels, rows);
    width = fold * channels;
    full = rows / fold;
    rest = rows % fold * channels;
  }
};

// A table over a folded row.
template <class C>
class Repeated {
 public:
  Repeated(const void* table, ptrdiff_t channels, const Rows& rows) : table_(static_cast<const C*>(table)) {
    if (rows.fold == 1) return;
    for (ptrdiff_t j = 0; j < rows.width; ++j) copy_[j] = table_[j % channels];
    table_ = copy_;
  }
  Repeated(const Repeated&) = delete;
  AlphaEach<C> from(ptrdiff_t column) const { return AlphaEach<C>(table_ + column); }

 private:
  const C* table_;
  C copy_[tile];
};

// Calls work(first element, first column, count) for the tiles of rows over a table a channel.
template <class Work>
inline void for_each_tile(const Rows& rows, const Work& work) {
  for (ptrdiff_t row = 0; row < rows.full; ++row)
    for (ptrdiff_t column = 0; column < rows.width; column += tile)
      work(row * rows.width + column, column, least(tile, rows.width - column));
  if (rows.rest > 0) work(rows.full * rows.width, 0, rows.rest);
}

}  // namespace
}  // namespace leakyrelu
