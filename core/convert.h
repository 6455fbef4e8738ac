// A block of numbers to and from the type it is computed in. Where the processor converts halves in vectors this says
// so; everywhere else the loop over Number<T> (leaky_relu.h) is left to the compiler.
#pragma once

#include <cstddef>

#include "leaky_relu.h"

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
// The masked forms, because GCC 12 warns of an uninitialized value within the plain ones.
constexpr __mmask16 every_lane = 0xffff;

template <>
inline void widen_block<Half, 32>(const Half* from, float* to) {
  for (int j = 0; j < 32; j += 16) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + j));
    _mm512_storeu_ps(to + j, _mm512_maskz_cvtph_ps(every_lane, halves));
  }
}
template <>
inline void narrow_block<Half, 32>(const float* from, Half* to) {
  for (int j = 0; j < 32; j += 16) {
    const __m256i halves = _mm512_maskz_cvtps_ph(every_lane, _mm512_loadu_ps(from + j), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), halves);
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
#endif

}  // namespace
}  // namespace leakyrelu
