#include "kernel_row.h"

namespace leakyrelu {
LEAKYRELU_KERNEL_ROW(neon)
}  // namespace leakyrelu
