// Elementwise kernels: the definition run over memory. Compiled once for each instruction set (instantiate.h): the
// compiler vectorizes these plain loops with the flags that CMakeLists.txt gives that file.
//
// Every operation is the same traversal: a value, the sign that selects its slope, an alpha. They differ in where the
// sign comes from (the value itself, another array, packed bits) and in whether the value is multiplied or divided.
// Contiguous runs go block by block, with the length of a block known to the compiler; heads, tails and strides go one
// by one, through the same functions.
#pragma once

#include <type_traits>

#include "kernels/convert.h"
#include "kernels/leaky_relu.h"
#include "kernels/loop.h"
#include "kernels/streaming_store.h"
#include "kernels/table.h"

#if defined(__AVX512BW__) && defined(__AVX512DQ__)
#include "kernels/masks_avx512.h"
#define LEAKYRELU_MASKS
#elif defined(__AVX2__)
#include "kernels/bfloat16_avx2.h"
#define LEAKYRELU_BFLOAT16_LANES
#endif

namespace leakyrelu {
namespace {

template <class T>
constexpr int block_length = line / static_cast<int>(sizeof(T));

// Sources of the sign ------------------------------------------------------------------------------------------------
// at(i, value) is the sign of element i; Block answers the same within the block that begins at i, for a widened value.

template <class T>
struct OwnSigns {
  static constexpr ptrdiff_t lookahead = 0;
  bool at(ptrdiff_t, T value) const { return positive(value); }
  struct Block {
    Block(const OwnSigns&, ptrdiff_t) {}
    bool at(int, Compute<T> value) const { return positive(value); }
  };
};

template <class T>
struct OtherSigns {
  static constexpr ptrdiff_t lookahead = 0;
  const T* x;
  bool at(ptrdiff_t i, T) const { return positive(x[i]); }
  struct Block {
    const T* x;
    Block(const OtherSigns& signs, ptrdiff_t i) : x(signs.x + i) {}
    bool at(int j, Compute<T>) const { return positive(x[j]); }
  };
};

// A table, because not every instruction set can shift each lane by its own count.
template <class Word>
struct SingleBits {
  Word of[8 * sizeof(Word)] = {};
  constexpr SingleBits() {
    for (unsigned j = 0; j < 8 * sizeof(Word); ++j) of[j] = Word(1) << j;
  }
};
template <class Word>
constexpr SingleBits<Word> single_bit{};

template <class T>
struct PackedSigns {
  // A block reads eight bytes at once, at whichever bit it begins; the loop over blocks stops that far from the end of
  // the run.
  static constexpr ptrdiff_t lookahead = 64;
  const uint8_t* bytes;
  ptrdiff_t first_bit;
  bool at(ptrdiff_t i, T) const {
    const ptrdiff_t bit = first_bit + i;
    return (bytes[bit >> 3] >> (bit & 7)) & 1;
  }
  struct Block {
    // As wide as what it selects, so that lanes need no conversion.
    using Word = std::conditional_t<sizeof(Compute<T>) == 4, std::uint32_t, std::uint64_t>;
    Word word;
    Block(const PackedSigns& signs, ptrdiff_t i) {
      const ptrdiff_t bit = signs.first_bit + i;
      word = static_cast<Word>(load<std::uint64_t>(signs.bytes + (bit >> 3)) >> (bit & 7));
    }
    bool at(int j, Compute<T>) const { return (word & single_bit<Word>.of[j]) != 0; }
  };
};

// The traversal ------------------------------------------------------------------------------------------------------

template <class Operation, class T, class Signs, class Alpha>
inline void one_by_one(const T* value, const Signs& signs, const Alpha& alpha, T* out, ptrdiff_t begin, ptrdiff_t end) {
  for (ptrdiff_t i = begin; i < end; ++i) out[i] = one<T, Operation>(value[i], signs.at(i, value[i]), alpha.at(i));
}

#if defined(LEAKYRELU_MASKS)
template <class T>
constexpr bool has_masks = sizeof(T) <= 8;

template <class T>
inline std::uint32_t mask_of(const OwnSigns<T>&, const T* value, ptrdiff_t i) {
  return positive_mask(value + i);
}
template <class T>
inline std::uint32_t mask_of(const OtherSigns<T>& signs, const T*, ptrdiff_t i) {
  return positive_mask(signs.x + i);
}
template <class T>
inline std::uint32_t mask_of(const PackedSigns<T>& signs, const T*, ptrdiff_t i) {
  const ptrdiff_t bit = signs.first_bit + i;
  return static_cast<std::uint32_t>(load<std::uint64_t>(signs.bytes + (bit >> 3)) >> (bit & 7));
}

template <class Operation, class T, class Signs>
inline std::enable_if_t<has_masks<T>> block(const T* value, const Signs& signs, const OneAlpha<Compute<T>>& alpha,
                                            T* out, ptrdiff_t i) {
  masked_block<Operation>(value + i, mask_of(signs, value, i), alpha.alpha, out);
}
#endif

template <class Operation, class T, class Signs, class Alpha>
inline void plain_block(const T* value, const Signs& signs, const Alpha& alpha, T* out, ptrdiff_t i) {
  constexpr int length = block_length<T>;
  using C = Compute<T>;
  const typename Signs::Block sign(signs, i);
  if constexpr (sizeof(T) == 2) {
    C wide[length], result[length];
    widen_block<T, length>(value + i, wide);
    LEAKYRELU_INDEPENDENT
    for (int j = 0; j < length; ++j)
      result[j] = Operation::apply(wide[j], slope<T>(sign.at(j, wide[j]), alpha.at(i + j)));
    narrow_block<T, length>(result, out);
  } else {
    LEAKYRELU_INDEPENDENT
    for (int j = 0; j < length; ++j) {
      const C v = value[i + j];
      out[j] = Operation::apply(v, slope<T>(sign.at(j, v), alpha.at(i + j)));
    }
  }
}

template <class Operation, class T, class Signs, class Alpha>
inline void block(const T* value, const Signs& signs, const Alpha& alpha, T* out, ptrdiff_t i) {
  plain_block<Operation>(value, signs, alpha, out, i);
}

#if defined(LEAKYRELU_BFLOAT16_LANES)
// Of the sixteen elements from j on in the block that begins at i.
inline __m256i lanes_of(const OwnSigns<BFloat16>&, const BFloat16* value, ptrdiff_t i, int j) {
  return positive_lanes(value + i + j);
}
inline __m256i lanes_of(const OtherSigns<BFloat16>& signs, const BFloat16*, ptrdiff_t i, int j) {
  return positive_lanes(signs.x + i + j);
}
inline __m256i lanes_of(const PackedSigns<BFloat16>& signs, const BFloat16*, ptrdiff_t i, int j) {
  return positive_lanes(PackedSigns<BFloat16>::Block(signs, i).word >> j);
}

template <class Operation, class Signs>
inline std::enable_if_t<std::is_same_v<Operation, Multiply>> block(const BFloat16* value, const Signs& signs,
                                                                   const OneAlpha<float>& alpha, BFloat16* out,
                                                                   ptrdiff_t i) {
  if (!shrinks(alpha.alpha)) return plain_block<Operation>(value, signs, alpha, out, i);
  for (int j = 0; j < block_length<BFloat16>; j += 16)
    multiplied_lanes(value + i + j, lanes_of(signs, value, i, j), alpha.alpha, out + j);
}
#endif

// Elements before the first one whose address is a multiple of `alignment`; all n of them where there is none.
template <class T>
inline ptrdiff_t unaligned_head(const T* out, ptrdiff_t n, std::uintptr_t alignment) {
  const auto address = reinterpret_cast<std::uintptr_t>(out);
  const std::uintptr_t missing = (0 - address) & (alignment - 1);
  if (missing % sizeof(T) != 0) return n;
  const auto head = static_cast<ptrdiff_t>(missing / sizeof(T));
  return head < n ? head : n;
}

// The number of blocks from which an aligned start pays for its head: NumPy aligns arrays to 16 bytes, and stores
// across two cache lines took 1.5 times as long (1024 floats and more in the first cache, AMD EPYC 25/17; by a loop
// over memory at offset 16).
constexpr ptrdiff_t blocks_worth_a_head = 32;

template <bool stream, class Operation, class T, class Signs, class Alpha>
void dense(const T* value, const Signs& signs, const Alpha& alpha, T* out, ptrdiff_t n) {
  constexpr int length = block_length<T>;
  constexpr ptrdiff_t reach = Signs::lookahead > length ? Signs::lookahead : length;
  ptrdiff_t i = 0;
  if (stream || n >= blocks_worth_a_head * length) {
    const ptrdiff_t head = unaligned_head(out, n, line);
    if (head < n) i = head;
    one_by_one<Operation>(value, signs, alpha, out, 0, i);
  }
  if (stream && unaligned_head(out + i, n, stream_alignment) == 0) {
    for (; i + reach <= n; i += length) {
      alignas(line) T result[length];
      block<Operation>(value, signs, alpha, result, i);
      stream_line(out + i, result);
    }
    stream_fence();
  } else {
    for (; i + reach <= n; i += length) block<Operation>(value, signs, alpha, out + i, i);
  }
  one_by_one<Operation>(value, signs, alpha, out, i, n);
}

template <class T, bool stream, class Operation>
void unary_loop(char* const* data, const ptrdiff_t* stride, ptrdiff_t n) {
  using C = Compute<T>;
  const char *x = data[0], *alpha = data[1];
  char* y = data[2];
  const bool contiguous = stride[0] == sizeof(T) && stride[2] == sizeof(T);
  const auto* values = reinterpret_cast<const T*>(x);
  auto* out = reinterpret_cast<T*>(y);
  if (contiguous && stride[1] == 0) {
    dense<stream, Operation>(values, OwnSigns<T>{}, OneAlpha<C>(alpha), out, n);
  } else if (contiguous && stride[1] == sizeof(C)) {
    dense<stream, Operation>(values, OwnSigns<T>{}, AlphaEach<C>(alpha), out, n);
  } else {
    for (ptrdiff_t i = 0; i < n; ++i, x += stride[0], alpha += stride[1], y += stride[2]) {
      const T value = load<T>(x);
      store<T>(y, one<T, Operation>(value, positive(value), load<C>(alpha)));
    }
  }
}

template <class T, bool stream>
void backward_loop(char* const* data, const ptrdiff_t* stride, ptrdiff_t n) {
  using C = Compute<T>;
  const char *grad = data[0], *x = data[1], *alpha = data[2];
  char* result = data[3];
  const bool contiguous = stride[0] == sizeof(T) && stride[1] == sizeof(T) && stride[3] == sizeof(T);
  const auto* values = reinterpret_cast<const T*>(grad);
  const OtherSigns<T> signs{reinterpret_cast<const T*>(x)};
  auto* out = reinterpret_cast<T*>(result);
  if (contiguous && stride[2] == 0) {
    dense<stream, Multiply>(values, signs, OneAlpha<C>(alpha), out, n);
  } else if (contiguous && stride[2] == sizeof(C)) {
    dense<stream, Multiply>(values, signs, AlphaEach<C>(alpha), out, n);
  } else {
    for (ptrdiff_t i = 0; i < n; ++i, grad += stride[0], x += stride[1], alpha += stride[2], result += stride[3])
      store<T>(result, one<T, Multiply>(load<T>(grad), positive(load<T>(x)), load<C>(alpha)));
  }
}

template <class T, bool stream>
void backward_from_signs_loop(const void* grad, const uint8_t* signs, ptrdiff_t first_bit, const void* alpha,
                              ptrdiff_t alpha_step, void* out, ptrdiff_t n) {
  using C = Compute<T>;
  const PackedSigns<T> packed{signs, first_bit};
  const auto* values = static_cast<const T*>(grad);
  if (alpha_step == 0)
    dense<stream, Multiply>(values, packed, OneAlpha<C>(alpha), static_cast<T*>(out), n);
  else
    dense<stream, Multiply>(values, packed, AlphaEach<C>(alpha), static_cast<T*>(out), n);
}

// Packing signs ------------------------------------------------------------------------------------------------------

// Eight bytes of 0 or 1 into one byte of bits: the multiplication brings each low bit to its place in the top byte, and
// no two of them meet, so there are no carries.
inline uint8_t gather_bits(const uint8_t* flags) {
  return static_cast<uint8_t>((load<std::uint64_t>(flags) * 0x0102040810204080u) >> 56);
}

inline void set_bit(uint8_t* signs, ptrdiff_t bit, bool value) {
  const auto mask = static_cast<uint8_t>(1u << (bit & 7));
  uint8_t& byte = signs[bit >> 3];
  byte = static_cast<uint8_t>(value ? byte | mask : byte & ~mask);
}

constexpr int group = 64;  // elements whose bits are gathered together

template <class T>
inline void gather_group(const T* x, uint8_t* signs) {
#if defined(LEAKYRELU_MASKS)
  if constexpr (has_masks<T>) {
    constexpr int length = block_length<T>;
    for (int j = 0; j < group; j += length) {
      const std::uint32_t bits = positive_mask(x + j);
      std::memcpy(signs + j / 8, &bits, length / 8);
    }
    return;
  }
#endif
  uint8_t flags[group];
  LEAKYRELU_INDEPENDENT
  for (int j = 0; j < group; ++j) flags[j] = positive(x[j]);
  for (int j = 0; j < group / 8; ++j) signs[j] = gather_bits(flags + 8 * j);
}

template <bool stream, class T, class Alpha>
void pack(const T* x, const Alpha& alpha, T* y, uint8_t* signs, ptrdiff_t first_bit, ptrdiff_t n) {
  constexpr int length = block_length<T>;
  const OwnSigns<T> own;
  const auto few = [&](ptrdiff_t begin, ptrdiff_t end) {
    for (ptrdiff_t i = begin; i < end; ++i) {  // the bit first: y may be x
      set_bit(signs, first_bit + i, positive(x[i]));
      y[i] = one<T, Multiply>(x[i], positive(x[i]), alpha.at(i));
    }
  };
  const ptrdiff_t to_byte_border = -first_bit & 7;
  ptrdiff_t i = to_byte_border < n ? to_byte_border : n;
  few(0, i);
  // Groups of 64 keep the alignment that the first one has.
  const bool past_cache = stream && unaligned_head(y + i, n, stream_alignment) == 0;
  uint8_t* bytes = signs + ((first_bit + i) >> 3);
  for (; i + group <= n; i += group, bytes += group / 8) {
    gather_group(x + i, bytes);  // before y: it may be x
    if (past_cache) {
      for (int j = 0; j < group; j += length) {
        alignas(line) T result[length];
        block<Multiply>(x, own, alpha, result, i + j);
        stream_line(y + i + j, result);
      }
    } else {
      for (int j = 0; j < group; j += length) block<Multiply>(x, own, alpha, y + i + j, i + j);
    }
  }
  if (past_cache) stream_fence();
  few(i, n);
}

template <class T, bool stream>
void forward_with_signs_loop(const void* x, const void* alpha, ptrdiff_t alpha_step, void* y, uint8_t* signs,
                             ptrdiff_t first_bit, ptrdiff_t n) {
  using C = Compute<T>;
  const auto* values = static_cast<const T*>(x);
  if (alpha_step == 0)
    pack<stream>(values, OneAlpha<C>(alpha), static_cast<T*>(y), signs, first_bit, n);
  else
    pack<stream>(values, AlphaEach<C>(alpha), static_cast<T*>(y), signs, first_bit, n);
}

}  // namespace
}  // namespace leakyrelu
