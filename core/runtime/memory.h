// Thresholds of memory: how long a run must be to be split over threads, and when its stores go past the cache.
#pragma once

#include <cstddef>

#include "runtime/thread_pool.h"

namespace leakyrelu {

// How to split n elements whose operands together take `bytes` an element. Pieces are multiples of 4096 elements, so
// that they share neither cache lines nor sign bytes.
Split split(std::ptrdiff_t n, std::ptrdiff_t bytes);

// Whether to write `output` bytes of the caller's memory past the cache, having read `input` bytes. Not for work in
// place, where the line is in the cache already, nor for fresh memory, which the operating system has just filled with
// zeros there.
bool should_stream(std::ptrdiff_t input, std::ptrdiff_t output);

// Bytes of the last-level cache of one core. An operation that reads and writes no more than these is not streamed.
std::ptrdiff_t cache_bytes();

}  // namespace leakyrelu
