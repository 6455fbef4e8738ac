// The definition run over memory. Included by one kernel_<isa>.cpp for each instruction set, which says nothing but its
// name: the compiler vectorizes these plain loops with the flags that CMakeLists.txt gives that file. The tail of a run
// is the same loop, so no element is ever computed by a second formula.
#pragma once

#include "kernel.h"
#include "leaky_relu.h"

// Element i of the output depends on element i of the inputs alone. Callers see to it that arrays are the same or
// apart, so no loop carries anything from one element to the next; unsaid, work in place would run one element at a
// time.
#if defined(__clang__)
#define LEAKYRELU_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define LEAKYRELU_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace leakyrelu {
namespace {

template <class T>
inline T load(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
inline void store(char* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

// One input and alpha. The contiguous cases are spelled out with constant strides, because that is what the compiler
// needs to see in order to vectorize; every other combination of strides runs the last loop.
template <class T, class Function>
inline void unary(char* const* data, const std::ptrdiff_t* stride, std::ptrdiff_t n, Function f) {
  using C = Compute<T>;
  const char *x = data[0], *alpha = data[1];
  char* y = data[2];
  constexpr std::ptrdiff_t size = sizeof(T), alpha_size = sizeof(C);
  const bool dense = stride[0] == size && stride[2] == size;
  if (dense && stride[1] == 0) {
    const C a = load<C>(alpha);
    LEAKYRELU_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < n; ++i) store<T>(y + i * size, f(load<T>(x + i * size), a));
  } else if (dense && stride[1] == alpha_size) {
    LEAKYRELU_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < n; ++i)
      store<T>(y + i * size, f(load<T>(x + i * size), load<C>(alpha + i * alpha_size)));
  } else {
    for (std::ptrdiff_t i = 0; i < n; ++i, x += stride[0], alpha += stride[1], y += stride[2])
      store<T>(y, f(load<T>(x), load<C>(alpha)));
  }
}

template <class T>
void forward_loop(char* const* data, const std::ptrdiff_t* stride, std::ptrdiff_t n) {
  unary<T>(data, stride, n, [](T x, Compute<T> a) { return forward<T>(x, a); });
}

template <class T>
void inverse_loop(char* const* data, const std::ptrdiff_t* stride, std::ptrdiff_t n) {
  unary<T>(data, stride, n, [](T y, Compute<T> a) { return inverse<T>(y, a); });
}

template <class T>
void backward_loop(char* const* data, const std::ptrdiff_t* stride, std::ptrdiff_t n) {
  using C = Compute<T>;
  const char *grad = data[0], *x = data[1], *alpha = data[2];
  char* out = data[3];
  constexpr std::ptrdiff_t size = sizeof(T), alpha_size = sizeof(C);
  const bool dense = stride[0] == size && stride[1] == size && stride[3] == size;
  if (dense && stride[2] == 0) {
    const C a = load<C>(alpha);
    LEAKYRELU_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < n; ++i)
      store<T>(out + i * size, backward<T>(load<T>(grad + i * size), positive(load<T>(x + i * size)), a));
  } else if (dense && stride[2] == alpha_size) {
    LEAKYRELU_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < n; ++i)
      store<T>(out + i * size,
               backward<T>(load<T>(grad + i * size), positive(load<T>(x + i * size)), load<C>(alpha + i * alpha_size)));
  } else {
    for (std::ptrdiff_t i = 0; i < n; ++i, grad += stride[0], x += stride[1], alpha += stride[2], out += stride[3])
      store<T>(out, backward<T>(load<T>(grad), positive(load<T>(x)), load<C>(alpha)));
  }
}

// Packed signs
// ---------------------------------------------------------------------------------------------------------
//
// Whole bytes are made from blocks of eight. The compiler turns eight comparisons into eight bytes of 0 or 1; the
// multiplication gathers their low bits into the top byte (each product bit is hit once, so there are no carries).

inline std::uint8_t gather_bits(const std::uint8_t* flags) {
  std::uint64_t bytes;
  std::memcpy(&bytes, flags, 8);
  return static_cast<std::uint8_t>((bytes * 0x0102040810204080u) >> 56);
}

inline void set_bit(std::uint8_t* signs, std::ptrdiff_t bit, bool value) {
  const auto mask = static_cast<std::uint8_t>(1u << (bit & 7));
  std::uint8_t& byte = signs[bit >> 3];
  byte = static_cast<std::uint8_t>(value ? byte | mask : byte & ~mask);
}

inline bool get_bit(const std::uint8_t* signs, std::ptrdiff_t bit) { return (signs[bit >> 3] >> (bit & 7)) & 1; }

// How many elements stand before the first byte border.
inline std::ptrdiff_t head(std::ptrdiff_t first_bit, std::ptrdiff_t n) {
  const std::ptrdiff_t missing = -first_bit & 7;
  return missing < n ? missing : n;
}

constexpr std::ptrdiff_t block = 64;

template <class T, bool one_alpha>
void pack_run(const T* x, const Compute<T>* alpha, T* y, std::uint8_t* signs, std::ptrdiff_t first_bit,
              std::ptrdiff_t n) {
  const auto a = [alpha](std::ptrdiff_t i) { return alpha[one_alpha ? 0 : i]; };
  const auto one_by_one = [&](std::ptrdiff_t from, std::ptrdiff_t to) {
    for (std::ptrdiff_t i = from; i < to; ++i) {
      const T value = x[i];
      y[i] = forward<T>(value, a(i));
      set_bit(signs, first_bit + i, positive(value));
    }
  };
  std::ptrdiff_t i = head(first_bit, n);
  one_by_one(0, i);
  std::uint8_t* bytes = signs + ((first_bit + i) >> 3);
  for (; i + block <= n; i += block, bytes += block / 8) {
    std::uint8_t flags[block];
    LEAKYRELU_INDEPENDENT
    for (std::ptrdiff_t j = 0; j < block; ++j) flags[j] = positive(x[i + j]);
    LEAKYRELU_INDEPENDENT
    for (std::ptrdiff_t j = 0; j < block; ++j) y[i + j] = forward<T>(x[i + j], a(i + j));
    for (std::ptrdiff_t j = 0; j < block / 8; ++j) bytes[j] = gather_bits(flags + 8 * j);
  }
  one_by_one(i, n);
}

template <class T>
void forward_with_signs_loop(const void* x, const void* alpha, std::ptrdiff_t alpha_step, void* y, std::uint8_t* signs,
                             std::ptrdiff_t first_bit, std::ptrdiff_t n) {
  const auto run = alpha_step == 0 ? pack_run<T, true> : pack_run<T, false>;
  run(static_cast<const T*>(x), static_cast<const Compute<T>*>(alpha), static_cast<T*>(y), signs, first_bit, n);
}

template <class T, bool one_alpha>
void unpack_run(const T* grad, const std::uint8_t* signs, std::ptrdiff_t first_bit, const Compute<T>* alpha, T* out,
                std::ptrdiff_t n) {
  const auto a = [alpha](std::ptrdiff_t i) { return alpha[one_alpha ? 0 : i]; };
  const auto one_by_one = [&](std::ptrdiff_t from, std::ptrdiff_t to) {
    for (std::ptrdiff_t i = from; i < to; ++i) out[i] = backward<T>(grad[i], get_bit(signs, first_bit + i), a(i));
  };
  std::ptrdiff_t i = head(first_bit, n);
  one_by_one(0, i);
  const std::uint8_t* bytes = signs + ((first_bit + i) >> 3);
  for (; i + 8 <= n; i += 8, ++bytes) {
    const unsigned byte = *bytes;
    LEAKYRELU_INDEPENDENT
    for (std::ptrdiff_t j = 0; j < 8; ++j) out[i + j] = backward<T>(grad[i + j], (byte >> j) & 1, a(i + j));
  }
  one_by_one(i, n);
}

template <class T>
void backward_from_signs_loop(const void* grad, const std::uint8_t* signs, std::ptrdiff_t first_bit, const void* alpha,
                              std::ptrdiff_t alpha_step, void* out, std::ptrdiff_t n) {
  const auto run = alpha_step == 0 ? unpack_run<T, true> : unpack_run<T, false>;
  run(static_cast<const T*>(grad), signs, first_bit, static_cast<const Compute<T>*>(alpha), static_cast<T*>(out), n);
}

template <class T>
constexpr Kernels kernels_of() {
  return {forward_loop<T>, backward_loop<T>, inverse_loop<T>, forward_with_signs_loop<T>, backward_from_signs_loop<T>};
}

}  // namespace

// In the order of DType.
#define LEAKYRELU_KERNEL_ROW(name)                                                                  \
  const KernelRow& kernels_##name() {                                                               \
    static const KernelRow row = {#name,                                                            \
                                  {kernels_of<Half>(), kernels_of<BFloat16>(), kernels_of<float>(), \
                                   kernels_of<double>(), kernels_of<long double>()}};               \
    return row;                                                                                     \
  }

}  // namespace leakyrelu
