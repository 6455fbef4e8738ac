// How an operation meets memory: how long a run must be to be split over threads, and when its stores go past the
// cache.
#pragma once

#include <cstddef>

#include "threads.h"

namespace leakyrelu {

// How to split n elements whose operands together take `bytes` an element. Pieces are multiples of 4096 elements, so
// that they share neither cache lines nor sign bytes.
Split split(std::ptrdiff_t n, std::ptrdiff_t bytes);

// Whether to write `output` bytes of the caller's memory past the cache, having read `input` bytes. Never asked for
// work in place, where the line is in the cache already, nor for fresh memory, which the kernel has just filled with
// zeros there.
bool should_stream(std::ptrdiff_t input, std::ptrdiff_t output);

// Bytes of the last cache that one core has: what work reads and writes together may be, and still not be streamed.
std::ptrdiff_t cache_bytes();

// Asks for huge pages under memory that is about to be written for the first time. Page faults of 4 KiB cost more than
// the arithmetic on what they bring in; memory that is in use already, or too short, is left as it is.
void advise_huge_pages(void* begin, std::ptrdiff_t bytes);

// For memory that somebody else allocates: huge pages lie at multiples of their size, and what malloc maps does not, so
// that up to a huge page of it at its ends comes in pieces of 4 KiB. Takes up address space so that the next mapping of
// so many bytes lies well, until leave_room(), or the next make_room() of the thread, gives it back.
// Never more than a hint: where malloc has memory at hand, or another thread maps something in between, all is as
// before.
void make_room(std::ptrdiff_t bytes);
void leave_room();

// Room while it lives.
class Room {
 public:
  explicit Room(std::ptrdiff_t bytes) { make_room(bytes); }
  ~Room() { leave_room(); }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
};

}  // namespace leakyrelu
