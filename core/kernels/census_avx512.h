// The census of finite values with AVX-512, because compilers make poor work of the loop in census.h: two conversions
// and a shuffle instead of one conversion, and every sum in the same execution unit.
#pragma once

#include <immintrin.h>

#include "kernels/number.h"
#include "kernels/table.h"

namespace leakyrelu {
namespace {

// As in masks_avx512.h: masked forms with every lane set, because GCC 12 warns of the plain ones.
inline __m512d widen_to_doubles(__m256 x, __mmask8 lanes) { return _mm512_maskz_cvtps_pd(lanes, x); }

inline __m512d load_lanes(const double* x, __mmask8 lanes) { return _mm512_maskz_loadu_pd(lanes, x); }
inline __m512d load_lanes(const float* x, __mmask8 lanes) {
  return widen_to_doubles(_mm256_maskz_loadu_ps(lanes, x), lanes);
}
inline __m512d load_lanes(const Half* x, __mmask8 lanes) {
  return widen_to_doubles(_mm256_cvtph_ps(_mm_maskz_loadu_epi16(lanes, x)), lanes);
}
inline __m512d load_lanes(const BFloat16* x, __mmask8 lanes) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_maskz_loadu_epi16(lanes, x));
  return widen_to_doubles(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)), lanes);
}

// `columns` neighbors of each of `rows` rows, in each of `runs` runs.
template <bool bounded, class T>
void census_finite(const T* x, const CensusWalk& walk, int columns, const CensusRule& rule, CensusSums& sums) {
  const auto lanes = static_cast<__mmask8>((1 << columns) - 1);
  const __m512d low = _mm512_set1_pd(rule.low), ceiling = _mm512_set1_pd(rule.ceiling), one = _mm512_set1_pd(1);
  const __m512i minus_one = _mm512_set1_epi64(-1);
  const __m512d middle_shift = _mm512_loadu_pd(rule.middle_shift), rest_shift = _mm512_loadu_pd(rule.rest_shift);
  __m512i above = _mm512_loadu_si512(sums.above), saturated = _mm512_loadu_si512(sums.saturated);
  __m512d middle_sum = _mm512_loadu_pd(sums.middle_sum), middle_squares = _mm512_loadu_pd(sums.middle_squares);
  __m512d rest_sum = _mm512_loadu_pd(sums.rest_sum), rest_squares = _mm512_loadu_pd(sums.rest_squares);
  for (std::ptrdiff_t run = 0; run < walk.runs; ++run, x += walk.run_step) {
    const T* at = x;
    for (std::ptrdiff_t i = 0; i < walk.rows; ++i, at += walk.step) {
      const __m512d value = load_lanes(at, lanes);
      const __mmask8 is_above = _mm512_mask_cmp_pd_mask(lanes, value, low, _CMP_GT_OQ);
      const auto is_rest = static_cast<__mmask8>(lanes & ~is_above);
      __mmask8 is_middle = is_above;
      above = _mm512_mask_sub_epi64(above, is_above, above, minus_one);
      if constexpr (bounded) {
        const __mmask8 is_saturated = _mm512_mask_cmp_pd_mask(lanes, value, ceiling, _CMP_GE_OQ);
        saturated = _mm512_mask_sub_epi64(saturated, is_saturated, saturated, minus_one);
        is_middle = static_cast<__mmask8>(is_middle & ~is_saturated);
      }
      const __m512d from_middle = _mm512_maskz_sub_pd(is_middle, value, middle_shift);
      const __m512d from_rest = _mm512_maskz_sub_pd(is_rest, value, rest_shift);
      // Sums as multiply-adds by 1: additions and comparisons have execution units of their own, which are busy.
      middle_sum = _mm512_fmadd_pd(from_middle, one, middle_sum);
      rest_sum = _mm512_fmadd_pd(from_rest, one, rest_sum);
      middle_squares = _mm512_fmadd_pd(from_middle, from_middle, middle_squares);
      rest_squares = _mm512_fmadd_pd(from_rest, from_rest, rest_squares);
    }
  }
  _mm512_storeu_si512(sums.above, above);
  _mm512_storeu_si512(sums.saturated, saturated);
  _mm512_storeu_pd(sums.middle_sum, middle_sum);
  _mm512_storeu_pd(sums.middle_squares, middle_squares);
  _mm512_storeu_pd(sums.rest_sum, rest_sum);
  _mm512_storeu_pd(sums.rest_squares, rest_squares);
}

}  // namespace
}  // namespace leakyrelu
