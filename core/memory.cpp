#include "memory.h"

#include <unistd.h>

namespace leakyrelu {
namespace {

constexpr std::ptrdiff_t least_bytes = 256 * 1024, wake_bytes = 2 * 1024 * 1024;
constexpr std::ptrdiff_t smallest_piece = 128 * 1024, largest_piece = 1024 * 1024;
constexpr std::ptrdiff_t alignment = 4096;

std::ptrdiff_t last_level_cache() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (size > 0) return size;
#endif
  return 32 * 1024 * 1024;
}

}  // namespace

Split split(std::ptrdiff_t n, std::ptrdiff_t bytes) {
  const std::ptrdiff_t total = n * bytes;
  if (total < least_bytes) return {n + 1, false};
  std::ptrdiff_t piece = total / 8;
  piece = piece < smallest_piece ? smallest_piece : piece > largest_piece ? largest_piece : piece;
  const std::ptrdiff_t elements = piece / bytes / alignment * alignment;
  return {elements < alignment ? alignment : elements, total >= wake_bytes};
}

bool should_stream(std::ptrdiff_t input, std::ptrdiff_t output) {
  static const std::ptrdiff_t cache = last_level_cache();
  return input + output > cache;
}

}  // namespace leakyrelu
