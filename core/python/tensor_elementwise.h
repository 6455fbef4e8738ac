// Leaky ReLU with packed signs on the memory of tensors (tensor_args.h).
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// with_signs_at(layout, slope, x, y, signs), from_signs_at(layout, slope, grad, signs, out),
// begin_huge_page_hint(bytes) and end_huge_page_hint() (huge_pages.h)
extern PyMethodDef tensor_elementwise_methods[];

}  // namespace leakyrelu
