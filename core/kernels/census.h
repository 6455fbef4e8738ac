// The census of a few columns: how often x > low, and the first two moments of what lies above and of the rest.
//
// Columns are units where units are adjacent in memory, and successive elements of one unit where its elements are
// adjacent. In both cases each column has its own sums, which the compiler keeps in vectors without reordering
// additions.
#pragma once

#include <limits>

#include "kernels/number.h"
#include "kernels/table.h"

#if defined(__AVX512F__)
#include "kernels/census_avx512.h"
#endif

namespace leakyrelu {
namespace {

// The value where the condition is 1, 0 where it is 0; a selection on the bits, because a selection of floats often
// stays a branch.
inline double keep_if(std::int64_t condition, double value) {
  return bit_cast<double>(-condition & bit_cast<std::int64_t>(value));
}

template <bool careful, class T>
void census_rows(const T* x, const CensusWalk& walk, int columns, const CensusRule& rule, CensusSums& sums,
                 CensusExceptions* exceptions) {
  constexpr double largest = std::numeric_limits<double>::max();
  for (std::ptrdiff_t n = 0; n < walk.runs * walk.rows; ++n) {
    const T* at = x + n / walk.rows * walk.run_step + n % walk.rows * walk.step;
    for (int j = 0; j < columns; ++j) {
      const double value = static_cast<double>(Number<T>::widen(at[j]));
      const std::int64_t above = value > rule.low, saturated = value >= rule.ceiling;
      std::int64_t middle = above & ~saturated, rest = 1 - above;
      if constexpr (careful) {
        middle &= value <= largest;
        rest = (value <= rule.low) & (value >= -largest);
        exceptions->nan[j] += value != value;
        exceptions->middle[j] += middle;
        exceptions->rest[j] += rest;
      }
      const double from_middle = keep_if(middle, value - rule.middle_shift[j]);
      const double from_rest = keep_if(rest, value - rule.rest_shift[j]);
      sums.above[j] += above;
      sums.saturated[j] += saturated;
      sums.middle_sum[j] += from_middle;
      sums.middle_squares[j] += from_middle * from_middle;
      sums.rest_sum[j] += from_rest;
      sums.rest_squares[j] += from_rest * from_rest;
    }
  }
}

#if !defined(__AVX512F__)
// The same for whole rows of finite values, with the sums in registers. GCC 12 leaves those of the loop above in
// memory, which is four times slower; so the vectors are written out here, with the compilers' portable vector
// extension.
#if defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif
constexpr int census_lanes = vector_bytes / 8, census_vectors = census_columns / census_lanes;
using Doubles = double __attribute__((vector_size(vector_bytes)));
using Masks = std::int64_t __attribute__((vector_size(vector_bytes)));

template <class Vector>
inline void load_vector(const void* from, Vector& to) {
  std::memcpy(&to, from, sizeof to);
}

inline void widen_lanes(const double* x, Doubles& to) { load_vector(x, to); }

inline void widen_lanes(const float* x, Doubles& to) {
  using Floats = float __attribute__((vector_size(vector_bytes / 2)));
  Floats narrow;
  load_vector(x, narrow);
  to = __builtin_convertvector(narrow, Doubles);
}

template <class T>
inline void widen_lanes(const T* x, Doubles& to) {
  alignas(vector_bytes) float wide[census_lanes];
  for (int j = 0; j < census_lanes; ++j) wide[j] = static_cast<float>(Number<T>::widen(x[j]));
  widen_lanes(wide, to);
}

template <bool bounded, class T>
void census_full_rows(const T* x, const CensusWalk& walk, const CensusRule& rule, CensusSums& sums) {
  Masks above[census_vectors], saturated[census_vectors];
  Doubles middle_sum[census_vectors], middle_squares[census_vectors], middle_shift[census_vectors];
  Doubles rest_sum[census_vectors], rest_squares[census_vectors], rest_shift[census_vectors];
  const auto each = [](auto does) {
    _Pragma("GCC unroll 4") for (int k = 0; k < census_vectors; ++k) does(k, k * census_lanes);
  };
  each([&](int k, int j) {
    load_vector(sums.above + j, above[k]);
    load_vector(sums.saturated + j, saturated[k]);
    load_vector(sums.middle_sum + j, middle_sum[k]);
    load_vector(sums.middle_squares + j, middle_squares[k]);
    load_vector(sums.rest_sum + j, rest_sum[k]);
    load_vector(sums.rest_squares + j, rest_squares[k]);
    load_vector(rule.middle_shift + j, middle_shift[k]);
    load_vector(rule.rest_shift + j, rest_shift[k]);
  });
  const double low = rule.low, ceiling = rule.ceiling;
  for (std::ptrdiff_t n = 0, i = 0; n < walk.runs * walk.rows; ++n) {
    const T* at = x + i * walk.step;
    if (++i == walk.rows) {
      i = 0;
      x += walk.run_step;
    }
    each([&](int k, int j) {
      Doubles value;
      widen_lanes(at + j, value);
      const Masks is_above = value > low;
      Masks is_middle = is_above;
      if constexpr (bounded) {
        const Masks is_saturated = value >= ceiling;
        saturated[k] -= is_saturated;
        is_middle &= ~is_saturated;
      }
      const Doubles from_middle = (Doubles)((Masks)(value - middle_shift[k]) & is_middle);
      const Doubles from_rest = (Doubles)((Masks)(value - rest_shift[k]) & ~is_above);
      above[k] -= is_above;  // a true lane is -1
      middle_sum[k] += from_middle;
      middle_squares[k] += from_middle * from_middle;
      rest_sum[k] += from_rest;
      rest_squares[k] += from_rest * from_rest;
    });
  }
  each([&](int k, int j) {
    std::memcpy(sums.above + j, &above[k], vector_bytes);
    std::memcpy(sums.saturated + j, &saturated[k], vector_bytes);
    std::memcpy(sums.middle_sum + j, &middle_sum[k], vector_bytes);
    std::memcpy(sums.middle_squares + j, &middle_squares[k], vector_bytes);
    std::memcpy(sums.rest_sum + j, &rest_sum[k], vector_bytes);
    std::memcpy(sums.rest_squares + j, &rest_squares[k], vector_bytes);
  });
}

#endif

template <class T>
void census_loop(const void* x, const CensusWalk& walk, int columns, const CensusRule& rule, CensusSums& sums,
                 CensusExceptions* exceptions) {
  const T* values = static_cast<const T*>(x);
  if (exceptions != nullptr) {
    census_rows<true>(values, walk, columns, rule, sums, exceptions);
    return;
  }
  const bool bounded = rule.ceiling < std::numeric_limits<double>::infinity();
#if defined(__AVX512F__)
  (bounded ? census_finite<true, T> : census_finite<false, T>)(values, walk, columns, rule, sums);
#else
  if (columns == census_columns)
    (bounded ? census_full_rows<true, T> : census_full_rows<false, T>)(values, walk, rule, sums);
  else
    census_rows<false>(values, walk, columns, rule, sums, exceptions);
#endif
}

}  // namespace
}  // namespace leakyrelu
