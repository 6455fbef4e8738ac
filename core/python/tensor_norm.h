// The plain functions of a normalization followed by a Leaky ReLU, for leakyrelu.torch.
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

extern PyMethodDef tensor_norm_methods[];

}  // namespace leakyrelu
