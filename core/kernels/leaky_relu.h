// THE definition of Leaky ReLU for one element of a type of number.h.
//
//     f(x) = x        where x > 0          f(x)  = x * slope(x)
//            alpha*x  otherwise            f'(x) = slope(x),  slope(x) = 1 where x > 0, alpha otherwise
//
// Written as one multiplication by a selected slope, not as a choice between two products: the product of the branch
// that is not taken is never computed, so it can neither overflow nor underflow nor raise a floating-point flag, and
// x * 1 is x to the last bit. At exactly 0, and for NaN, the slope is alpha, as in PyTorch, TensorFlow and oneDNN.
#pragma once

#include "kernels/number.h"

namespace leakyrelu {
namespace {

// x > 0 is decided on the bits, as integers between the smallest subnormal and infinity. A floating-point comparison
// would raise the "invalid" flag for NaN, and NumPy would then warn of a NaN that the operation did not produce.
template <class T>
inline bool positive(T x) {
  const auto bits = bit_cast<typename Number<T>::Bits>(x);
  return (bits > 0) & (bits <= Number<T>::infinity);
}
inline bool positive(long double x) { return __builtin_isgreater(x, 0.0L); }

// A selection on the bits, because every compiler turns it into vector code; a selection of floats often stays a
// branch.
template <class T>
inline Compute<T> slope(bool is_positive, Compute<T> alpha) {
  using C = Compute<T>;
  using Bits = typename Number<C>::Bits;
  const Bits mask = -static_cast<Bits>(is_positive);
  return bit_cast<C>(static_cast<Bits>((mask & bit_cast<Bits>(C(1))) | (~mask & bit_cast<Bits>(alpha))));
}
template <>
inline long double slope<long double>(bool is_positive, long double alpha) {
  return is_positive ? 1.0L : alpha;
}

// The value, or +0 where that is said; a selection on the bits, as above.
template <class C>
inline C unless(bool is_zero, C value) {
  using Bits = typename Number<C>::Bits;
  const Bits mask = -static_cast<Bits>(is_zero);
  return bit_cast<C>(static_cast<Bits>(~mask & bit_cast<Bits>(value)));
}

// The two operations that use a slope. forward(x) = multiply(x, slope of x), backward(grad, x) = multiply(grad, slope
// of x), and the inverse, for alpha > 0 where y has the sign of x, = divide(y, slope of y).
struct Multiply {
  template <class C>
  static C apply(C value, C slope) {
    return value * slope;
  }
};
struct Divide {
  template <class C>
  static C apply(C value, C slope) {
    return value / slope;
  }
};

// One element, computed in its compute type and rounded once.
template <class T, class Operation>
inline T one(T value, bool is_positive, Compute<T> alpha) {
  return Number<T>::narrow(Operation::apply(Number<T>::widen(value), slope<T>(is_positive, alpha)));
}

}  // namespace
}  // namespace leakyrelu
