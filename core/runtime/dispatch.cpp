#include "runtime/dispatch.h"

namespace leakyrelu {
namespace {

const KernelRow* chosen = nullptr;

std::string list_available() {
  std::string names;
  for (const KernelRow* row : available_rows()) {
    if (!names.empty()) names += ", ";
    names += row->isa;
  }
  return names;
}

}  // namespace

const std::vector<const KernelRow*>& available_rows() {
  static const std::vector<const KernelRow*> rows = [] {
    std::vector<const KernelRow*> found = {&kernels_baseline()};
#if defined(LEAKYRELU_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx2) found.push_back(&kernels_avx2());
    if (avx512) found.push_back(&kernels_avx512());
#elif defined(LEAKYRELU_ARM64)
    found.push_back(&kernels_neon());  // part of every arm64 processor
#endif
    return found;
  }();
  return rows;
}

const KernelRow& active_row() { return chosen ? *chosen : *available_rows().back(); }

std::string choose(const std::string& isa) {
  if (isa.empty()) {
    chosen = available_rows().back();
    return {};
  }
  for (const KernelRow* row : available_rows()) {
    if (isa == row->isa) {
      chosen = row;
      return {};
    }
  }
  return "LEAKYRELU_ISA=" + isa +
         " is not an instruction set that this machine can run with this build; it can run: " + list_available() +
         ". Unset LEAKYRELU_ISA to take the fastest.";
}

}  // namespace leakyrelu
