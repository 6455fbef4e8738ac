// Parts that the loops of all kernels share: permission to vectorize, access to memory at any address, and alpha.
#pragma once

#include <cstddef>

#include "kernels/number.h"

// Element i of the output depends on element i of the inputs alone. Callers guarantee that two arrays are identical or
// do not overlap, so no loop has a dependence between elements; without this pragma, work in place would not be
// vectorized.
#if defined(__clang__)
#define LEAKYRELU_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define LEAKYRELU_INDEPENDENT _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#endif

// Permission to add up in another order, which vectors need; the rest of floating-point arithmetic stays as written.
#define LEAKYRELU_PRAGMA(text) _Pragma(#text)
#define LEAKYRELU_SUM(...) LEAKYRELU_PRAGMA(omp simd reduction(+ : __VA_ARGS__))

namespace leakyrelu {
namespace {

using std::ptrdiff_t;
using std::uint8_t;

template <class T>
inline T load(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
inline void store(void* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

// One alpha, or one an element ---------------------------------------------------------------------------------------

template <class C>
struct OneAlpha {
  C alpha;
  explicit OneAlpha(const void* p) : alpha(load<C>(p)) {}
  C at(ptrdiff_t) const { return alpha; }
};

template <class C>
struct AlphaEach {
  const C* alpha;
  explicit AlphaEach(const void* p) : alpha(static_cast<const C*>(p)) {}
  C at(ptrdiff_t i) const { return alpha[i]; }
};

}  // namespace
}  // namespace leakyrelu
