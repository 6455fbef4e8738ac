// Conversion of a block of numbers to and from the type that it is computed in. The 16-bit types have vector code here,
// because compilers make poor work of the loop over Number<T> (number.h), which serves all other types.
#pragma once

#include <cstddef>

#include "kernels/number.h"

namespace leakyrelu {
namespace {

template <class T, int length>
inline void widen_block(const T* from, Compute<T>* to) {
  for (int j = 0; j < length; ++j) to[j] = Number<T>::widen(from[j]);
}

template <class T, int length>
inline void narrow_block(const Compute<T>* from, T* to) {
  for (int j = 0; j < length; ++j) to[j] = Number<T>::narrow(from[j]);
}

#if defined(__AVX512F__)
template <>
inline void widen_block<Half, 32>(const Half* from, float* to) {
  for (int j = 0; j < 32; j += 16) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + j));
    _mm512_storeu_ps(to + j, _mm512_cvtph_ps(halves));
  }
}
template <>
inline void narrow_block<Half, 32>(const float* from, Half* to) {
  for (int j = 0; j < 32; j += 16) {
    const __m256i halves = _mm512_cvtps_ph(_mm512_loadu_ps(from + j), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), halves);
  }
}
template <>
inline void widen_block<BFloat16, 32>(const BFloat16* from, float* to) {
  for (int j = 0; j < 32; j += 16) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + j)));
    _mm512_storeu_ps(to + j, _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
  }
}
// As Number<BFloat16>::narrow: to nearest even, and a NaN stays one.
template <>
inline void narrow_block<BFloat16, 32>(const float* from, BFloat16* to) {
  for (int j = 0; j < 32; j += 16) {
    const __m512 value = _mm512_loadu_ps(from + j);
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_fpclass_ps_mask(value, 0x81);  // quiet or signaling; raises no flag
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
}
#elif defined(__F16C__)
template <>
inline void widen_block<Half, 32>(const Half* from, float* to) {
  for (int j = 0; j < 32; j += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j));
    _mm256_storeu_ps(to + j, _mm256_cvtph_ps(halves));
  }
}
template <>
inline void narrow_block<Half, 32>(const float* from, Half* to) {
  for (int j = 0; j < 32; j += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + j), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + j), halves);
  }
}
template <>
inline void widen_block<BFloat16, 32>(const BFloat16* from, float* to) {
  for (int j = 0; j < 32; j += 8) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j)));
    _mm256_storeu_ps(to + j, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
  }
}
// As Number<BFloat16>::narrow: to nearest even, and a NaN stays one.
inline __m256i upper_half_rounded(const float* from) {
  const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(from));
  const __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
  const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}
template <>
inline void narrow_block<BFloat16, 32>(const float* from, BFloat16* to) {
  for (int j = 0; j < 32; j += 16) {
    const __m256i packed = _mm256_packus_epi32(upper_half_rounded(from + j), upper_half_rounded(from + j + 8));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), _mm256_permute4x64_epi64(packed, 0xd8));
  }
}
#elif !defined(__aarch64__)
template <>
inline void narrow_block<Half, 32>(const float* from, Half* to) {
  std::uint32_t raised = 0;
  for (int j = 0; j < 32; ++j) raised |= Number<Half>::raised(from[j]);
  Number<Half>::raise(raised);
  for (int j = 0; j < 32; ++j) to[j] = Number<Half>::rounded(from[j]);
}
#endif

}  // namespace
}  // namespace leakyrelu
