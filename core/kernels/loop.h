// What the loops of the kernels share: how the compiler may reorder them, memory at any address, and alpha.
#pragma once

#include <cstddef>

#include "kernels/number.h"

// Element i of the output depends on element i of the inputs alone. Callers see to it that arrays are the same or
// apart, so no loop carries anything from one element to the next; unsaid, work in place would run one element at a
// time.
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
