#include "kernels/instantiate.h"

namespace leakyrelu {
LEAKYRELU_KERNEL_ROW(baseline)
}  // namespace leakyrelu
