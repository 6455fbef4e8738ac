#include "runtime/huge_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace leakyrelu {
namespace {

constexpr std::ptrdiff_t huge_page = 2 * 1024 * 1024;  // of x86-64, and of arm64 with pages of 4 KiB

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

void advise_huge_pages(void* begin, std::ptrdiff_t bytes) {
#if defined(MADV_HUGEPAGE)
  if (bytes < huge_pages_from) return;
  const std::uintptr_t page = page_size();
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  // Includes the rest of the first and the last page, such as the header of malloc.
  const std::uintptr_t first = address / page * page;
  const std::uintptr_t end = (address + static_cast<std::uintptr_t>(bytes) + page - 1) / page * page;
  // The result does not matter: a kernel without huge pages refuses, and the memory works as before.
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
} reserved;
}  // namespace

void begin_huge_page_hint(std::ptrdiff_t bytes) {
  end_huge_page_hint();
  if (bytes < huge_pages_from) return;
  // As malloc maps it, with its header and the alignment that PyTorch asks for. New mappings lie at the top of the
  // highest gap that is large enough, so once all of this one but its top is unmapped, the next mapping takes its place
  // below that top. The first page holds the header, and is mapped before huge pages are requested, so these are to
  // begin behind it. Fresh memory, 2^22 of bfloat16, forward plus backward: 2.4 ms instead of 3.5; PyTorch 7.2 (two
  // cores of an AMD EPYC 25/17, KVM: python -m benchmarks training layer --dtypes bfloat16 --memory fresh); 2^22 floats
  // of NumPy, forward: 1.7 ms instead of 2.1; PyTorch 6.7 (python -m benchmarks sizes --operations forward --modes
  // new).
  constexpr std::size_t more = 128;
  const std::size_t page = page_size(), length = (static_cast<std::size_t>(bytes) + more + page - 1) / page * page;
  void* const probe = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (probe == MAP_FAILED) return;
  const std::size_t off = (reinterpret_cast<std::uintptr_t>(probe) + page) % huge_page;
  munmap(probe, length - off);
  if (off > 0) reserved = {static_cast<char*>(probe) + (length - off), off};
}

void end_huge_page_hint() {
  if (reserved.at != nullptr) munmap(reserved.at, reserved.length);
  reserved = {};
}
#else
void begin_huge_page_hint(std::ptrdiff_t) {}
void end_huge_page_hint() {}
#endif

}  // namespace leakyrelu
