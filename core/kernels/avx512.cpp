#include "kernels/instantiate.h"

namespace leakyrelu {
LEAKYRELU_KERNEL_ROW(avx512)
}  // namespace leakyrelu
