#include "memory.h"

#include <unistd.h>

namespace leakyrelu {
namespace {

// TUNED BELOW
constexpr std::ptrdiff_t piece_bytes = 512 * 1024;
constexpr std::ptrdiff_t alignment = 4096;

std::ptrdiff_t last_level_cache() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (size > 0) return size;
#endif
  return 32 * 1024 * 1024;
}

}  // namespace

std::ptrdiff_t piece_length(std::ptrdiff_t bytes) {
  const std::ptrdiff_t length = piece_bytes / bytes / alignment * alignment;
  return length < alignment ? alignment : length;
}

bool should_stream(std::ptrdiff_t input, std::ptrdiff_t output) {
  static const std::ptrdiff_t cache = last_level_cache();
  return input + output > cache;
}

}  // namespace leakyrelu
