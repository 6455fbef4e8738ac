// Streaming stores, which go past the cache. A plain store first reads the line that it is about to overwrite; a
// streaming store does not, which saves a third of the traffic of a pass that is too long for the cache.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace leakyrelu {
namespace {

constexpr int line = 64;  // bytes

#if defined(__SSE2__)
constexpr std::uintptr_t stream_alignment = 16;

inline void stream_line(void* to, const void* from) {
  auto* target = static_cast<__m128i*>(to);
  const auto* source = static_cast<const __m128i*>(from);
  for (int i = 0; i < line / 16; ++i) _mm_stream_si128(target + i, _mm_load_si128(source + i));
}

// Streaming stores are weakly ordered: other threads must see them before they are told that the work is done.
inline void stream_fence() { _mm_sfence(); }
#else
constexpr std::uintptr_t stream_alignment = 1;

inline void stream_line(void* to, const void* from) { std::memcpy(to, from, line); }

inline void stream_fence() {}
#endif

}  // namespace
}  // namespace leakyrelu
