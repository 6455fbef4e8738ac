// The census on the memory of a tensor or an array (tensor_args.h).
#pragma once

#include "python/numpy_api.h"

namespace leakyrelu {

// add_census_at(layout, low, ceiling, x, counts, moments), which adds to counts and moments.
extern PyMethodDef tensor_census_methods[];

}  // namespace leakyrelu
