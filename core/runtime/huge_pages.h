// Huge pages under memory that is about to be written for the first time.
#pragma once

#include <cstddef>

namespace leakyrelu {

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
