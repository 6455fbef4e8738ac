// Picks the row of the kernel table, once.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace leakyrelu {

// The rows that this build holds and this machine can run, slowest first.
const std::vector<const KernelRow*>& available_rows();

// The row in use: the last of the available ones, or the one that choose() took.
const KernelRow& active_row();

// Takes the row of that name. An empty name means the fastest. Returns an empty string, or what is wrong with the name.
std::string choose(const std::string& isa);

}  // namespace leakyrelu
