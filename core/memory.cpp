#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>

namespace leakyrelu {
namespace {

// Measured on two cores of an AMD EPYC (family 25, model 17, 1 MiB second and 32 MiB third cache, KVM), float32, by
// `python -m benchmarks sizes --operations forward --dtypes float32`:
// two threads took 4.2 us for 2^16 elements where one takes 5.9, and as long as one for 2^15;
constexpr std::ptrdiff_t least_bytes = 256 * 1024;
// waking a sleeping helper costs the first call of a burst some 3 us;
constexpr std::ptrdiff_t wake_bytes = 512 * 1024;
// pieces much smaller than these cost more in turns than they gain in balance.
constexpr std::ptrdiff_t smallest_piece = 128 * 1024, largest_piece = 1024 * 1024;
constexpr std::ptrdiff_t alignment = 4096;
constexpr std::ptrdiff_t huge_page = 2 * 1024 * 1024;  // of x86-64, and of arm64 with pages of 4 KiB
// Where the host of a virtual machine has its memory in small pages, a huge page of the guest costs more than the 512
// small ones: on the same machine 2^20 fresh floats, forward plus backward, took 0.6 to 1.4 times as long, depending on
// which memory the guest had. From here on the gain where it is well is worth that.
constexpr std::ptrdiff_t huge_advice_from = 8 * 1024 * 1024;

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

// Bytes of the last cache that the first processor has, 0 where the system tells of none behind the second level: some
// virtual machines keep the third to themselves.
std::ptrdiff_t cache_of_one_core() {
#if defined(__linux__)
  constexpr const char* folder = "/sys/devices/system/cpu/cpu0/cache/index";
  long highest = 0, bytes = 0;
  for (int index = 0; index < 8; ++index) {
    const auto read = [&](const char* name, const char* format, auto&... values) {
      char path[96];
      std::snprintf(path, sizeof path, "%s%d/%s", folder, index, name);
      std::FILE* const file = std::fopen(path, "re");
      if (file == nullptr) return false;
      const bool found = std::fscanf(file, format, &values...) == static_cast<int>(sizeof...(values));
      std::fclose(file);
      return found;
    };
    long level = 0, size = 0;
    char unit = 0;
    if (!read("level", "%ld", level) || !read("size", "%ld%c", size, unit) || level <= highest || size <= 0) continue;
    highest = level;
    bytes = size * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
  }
  if (highest >= 3) return bytes;
#endif
  return 0;
}

// Asked when the library is loaded: the first long run may meet a fork, whose child would wait for an answer for ever.
// sysconf comes second: of a processor with several third caches glibc tells the sum (2.36 on the machine below: 320
// MiB), but what one core writes goes through the one beside it.
std::ptrdiff_t last_level_cache() {
  if (const std::ptrdiff_t bytes = cache_of_one_core(); bytes > 0) return bytes;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  const long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (size > 0) return size;
#endif
  return 32 * 1024 * 1024;
}

const std::ptrdiff_t cache = last_level_cache();

}  // namespace

Split split(std::ptrdiff_t n, std::ptrdiff_t bytes) {
  const std::ptrdiff_t total = n * bytes;
  if (total < least_bytes) return {n + 1, false};
  std::ptrdiff_t piece = total / 8;
  piece = piece < smallest_piece ? smallest_piece : piece > largest_piece ? largest_piece : piece;
  const std::ptrdiff_t elements = piece / bytes / alignment * alignment;
  return {elements < alignment ? alignment : elements, total >= wake_bytes};
}

void advise_huge_pages(void* begin, std::ptrdiff_t bytes) {
#if defined(MADV_HUGEPAGE)
  if (bytes < huge_advice_from) return;
  const std::uintptr_t page = page_size();
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  // With what lies before and behind on the same pages: the header of malloc, above all.
  const std::uintptr_t first = address / page * page;
  const std::uintptr_t end = (address + static_cast<std::uintptr_t>(bytes) + page - 1) / page * page;
  // Advice, not a need: a kernel without huge pages refuses, and the memory works all the same.
  static_cast<void>(madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE));
#else
  static_cast<void>(begin);
  static_cast<void>(bytes);
#endif
}

#if defined(__linux__)
namespace {
thread_local struct {
  void* at = nullptr;
  std::size_t length = 0;
} room;
}  // namespace

void make_room(std::ptrdiff_t bytes) {
  leave_room();
  if (bytes < huge_advice_from) return;
  // As malloc maps it, with its header and the alignment that PyTorch asks for. New mappings lie at the top of the
  // highest gap that is large enough, so the place of this one, with its own top left in the way, is the next one's.
  // The first page has the header on it, and is there before anybody asks for huge ones: these are to begin behind it.
  // Fresh memory, 2^22 of bfloat16, forward plus backward: 2.4 ms, where it took 3.5, and PyTorch 7.2 (two cores of
  // an AMD EPYC 25/17, KVM: python -m benchmarks torch lone --dtypes bfloat16 --memory fresh); 2^22 floats of NumPy,
  // forward: 1.7 ms, where it took 2.1, and PyTorch 6.7 (python -m benchmarks sizes --operations forward --modes new).
  constexpr std::size_t more = 128;
  const std::size_t page = page_size(), length = (static_cast<std::size_t>(bytes) + more + page - 1) / page * page;
  void* const probe = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (probe == MAP_FAILED) return;
  const std::size_t off = (reinterpret_cast<std::uintptr_t>(probe) + page) % huge_page;
  munmap(probe, length - off);
  if (off > 0) room = {static_cast<char*>(probe) + (length - off), off};
}

void leave_room() {
  if (room.at != nullptr) munmap(room.at, room.length);
  room = {};
}
#else
void make_room(std::ptrdiff_t) {}
void leave_room() {}
#endif

// On the same machine: 2^23 floats (64 MiB in and out) 1.39 ms streamed and 1.74 plain, 2^26 11.2 and 16.0; but 2^22
// floats, which just fit the third cache, 0.65 and 0.48.
bool should_stream(std::ptrdiff_t input, std::ptrdiff_t output) { return input + output > cache; }

std::ptrdiff_t cache_bytes() { return cache; }

}  // namespace leakyrelu
