#include "kernels/instantiate.h"

namespace leakyrelu {
LEAKYRELU_KERNEL_ROW(avx2)
}  // namespace leakyrelu
