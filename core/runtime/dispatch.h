// The choice of an instruction set: the row of the kernel table in use.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace leakyrelu {

// The rows that this build holds and this machine can run, slowest first.
const std::vector<const KernelRow*>& available_rows();

// The row in use: the last of the available ones, or the one that choose() selected.
const KernelRow& active_row();

// Selects the row of that name. An empty name means the fastest. Returns an empty string, or the text of an error.
std::string choose(const std::string& isa);

}  // namespace leakyrelu
