#include "kernel_loop.h"

namespace leakyrelu {
LEAKYRELU_KERNEL_ROW(neon)
}  // namespace leakyrelu
