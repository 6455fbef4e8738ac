// The number types of the kernels, and the type that each is computed in.
//
// This file is compiled several times, once for each instruction set. Everything in it has internal linkage, so that
// the linker can never merge, say, the AVX-512 copy of a function into the baseline kernel.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace leakyrelu {
namespace {

// Storage types of 16 bits. They are computed in float and rounded once, to nearest even.
struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// The traits of a number type: the type that it is computed in, the conversions to and from that, and, as an integer,
// the bits of infinity.
template <class T>
struct Number;

template <>
struct Number<float> {
  using Compute = float;
  using Bits = std::int32_t;
  static constexpr Bits infinity = 0x7f800000;
  static float widen(float x) { return x; }
  static float narrow(float y) { return y; }
};

template <>
struct Number<double> {
  using Compute = double;
  using Bits = std::int64_t;
  static constexpr Bits infinity = 0x7ff0000000000000;
  static double widen(double x) { return x; }
  static double narrow(double y) { return y; }
};

template <>
struct Number<BFloat16> {
  using Compute = float;
  using Bits = std::int16_t;
  static constexpr Bits infinity = 0x7f80;
  static float widen(BFloat16 x) { return bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }
  static BFloat16 narrow(float y) {
    const auto bits = bit_cast<std::uint32_t>(y);
    const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const std::uint32_t quiet = (bits >> 16) | 0x40;  // rounding could carry a NaN into an infinity
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    return {static_cast<std::uint16_t>(nan ? quiet : rounded)};
  }
};

template <>
struct Number<Half> {
  using Compute = float;
  using Bits = std::int16_t;
  static constexpr Bits infinity = 0x7c00;
#if defined(__F16C__)
  static float widen(Half x) { return _cvtsh_ss(x.bits); }
  static Half narrow(float y) { return {_cvtss_sh(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
#elif defined(__aarch64__)
  static float widen(Half x) { return static_cast<float>(bit_cast<__fp16>(x.bits)); }
  static Half narrow(float y) { return {bit_cast<std::uint16_t>(static_cast<__fp16>(y))}; }
#else
  // Without conversion instructions, in integers alone: the exponent is moved, subnormals are normalized by a float
  // subtraction that is exact.
  static float widen(Half x) {
    const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000) << 16;
    const std::uint32_t magnitude = static_cast<std::uint32_t>(x.bits & 0x7fff) << 13;
    const std::uint32_t normal = magnitude + 0x38000000;
    const std::uint32_t special = magnitude + 0x70000000;
    const auto subnormal =
        bit_cast<std::uint32_t>(bit_cast<float>(magnitude + 0x38800000) - bit_cast<float>(0x38800000));
    const std::uint32_t finite = magnitude < 0x00800000 ? subnormal : normal;
    return bit_cast<float>(sign | (magnitude >= 0x0f800000 ? special : finite));
  }
  static Half narrow(float y) {
    raise(raised(y));
    return rounded(y);
  }
  static Half rounded(float y) {
    const auto bits = bit_cast<std::uint32_t>(y);
    const std::uint32_t sign = (bits >> 16) & 0x8000;
    const std::uint32_t magnitude = bits & 0x7fffffff;
    const std::uint32_t normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    // Adding 0.5 puts the last bit of a subnormal half at the last bit of the float, and the addition rounds.
    const std::uint32_t small = magnitude < 0x38800000 ? magnitude : 0;
    const std::uint32_t subnormal = bit_cast<std::uint32_t>(bit_cast<float>(small) + 0.5f) - 0x3f000000;
    const std::uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
    const std::uint32_t nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
    const std::uint32_t large = magnitude > 0x7f800000 ? nan : 0x7c00;
    return {static_cast<std::uint16_t>(sign | (magnitude >= 0x477ff000 ? large : finite))};
  }

  // The flags that a conversion instruction would raise, and NumPy's own conversion does.
  static constexpr std::uint32_t overflow = 1, underflow = 2;
  static std::uint32_t raised(float y) {
    const std::uint32_t magnitude = bit_cast<std::uint32_t>(y) & 0x7fffffff;
    const std::uint32_t large = (magnitude >= 0x477ff000) & (magnitude < 0x7f800000);
    const std::uint32_t tiny = magnitude < 0x387ff000;  // also after rounding
    const auto small = bit_cast<float>(tiny ? magnitude : 0);
    const std::uint32_t inexact = (small + 0.5f) - 0.5f != small;
    return large * overflow | inexact * underflow;
  }
  static void raise(std::uint32_t flags) {
    if (flags == 0) return;
    volatile float limit = 0x1p-126f;  // so that the compiler does not do the arithmetic
    if (flags & underflow) limit = limit * limit;
    limit = 0x1p127f;
    if (flags & overflow) limit = limit * limit;
  }
#endif
};

template <>
struct Number<long double> {
  using Compute = long double;
  static long double widen(long double x) { return x; }
  static long double narrow(long double y) { return y; }
};

template <class T>
using Compute = typename Number<T>::Compute;

// Whether no product with this slope is larger in magnitude than the value: |slope| <= 1, so the slope is not NaN.
inline bool shrinks(float slope) { return (bit_cast<std::uint32_t>(slope) & 0x7fffffff) <= 0x3f800000; }

}  // namespace
}  // namespace leakyrelu
