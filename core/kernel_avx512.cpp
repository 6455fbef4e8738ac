#include "kernel_row.h"

namespace leakyrelu {
LEAKYRELU_KERNEL_ROW(avx512)
}  // namespace leakyrelu
