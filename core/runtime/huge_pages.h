// Huge pages under memory that is about to be written for the first time.
#pragma once

#include <cstddef>

namespace leakyrelu {

// Memory of fewer bytes is left as it is by the functions below. Where the host of a virtual machine has its memory in
// small pages, a huge page of the guest costs more than the 512 small ones: on two cores of an AMD EPYC 25/17 (KVM)
// 2^20 fresh floats, forward plus backward, took 0.6 to 1.4 times as long, depending on which memory the guest had.
// From this size on the gain on other machines outweighs that loss.
constexpr std::ptrdiff_t huge_pages_from = 8 * 1024 * 1024;

// Requests huge pages for memory that is about to be written for the first time, because page faults of 4 KiB cost more
// than the arithmetic on their contents. Memory that is in use already, or too short, is left as it is.
void advise_huge_pages(void* begin, std::ptrdiff_t bytes);

// A hint for memory that another allocator maps. Huge pages lie at multiples of their size, and what malloc maps does
// not, so that up to a huge page of it at its ends comes in pieces of 4 KiB. begin_huge_page_hint() reserves address
// space so that the next mapping of that many bytes begins where a huge page does; end_huge_page_hint(), or the next
// begin_huge_page_hint() of the thread, releases it.
// Never more than a hint: where malloc has memory at hand, or another thread maps something in between, nothing
// changes.
void begin_huge_page_hint(std::ptrdiff_t bytes);
void end_huge_page_hint();

// The hint holds while an object of this class lives.
class HugePageHint {
 public:
  explicit HugePageHint(std::ptrdiff_t bytes) { begin_huge_page_hint(bytes); }
  ~HugePageHint() { end_huge_page_hint(); }
  HugePageHint(const HugePageHint&) = delete;
  HugePageHint& operator=(const HugePageHint&) = delete;
};

}  // namespace leakyrelu
