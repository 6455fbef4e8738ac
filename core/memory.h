// How an operation meets memory: how long a run must be to be split over threads, and when its stores go past the
// cache.
#pragma once

#include <cstddef>

namespace leakyrelu {

// Elements in a piece for one thread, for operands that together take `bytes` an element. Runs up to this length stay
// on the caller's thread. A multiple of 4096, so that pieces share neither cache lines nor sign bytes.
std::ptrdiff_t piece_length(std::ptrdiff_t bytes);

// Whether to write `output` bytes past the cache, having read `input` bytes. Never for work in place.
bool should_stream(std::ptrdiff_t input, std::ptrdiff_t output);

}  // namespace leakyrelu
