// Normalization followed by a Leaky ReLU, as a whole layer, on the memory of tensors (tensor_args.h).
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

extern PyMethodDef tensor_norm_methods[];

}  // namespace leakyrelu
