"""The native part: NumPy ufuncs and plain functions. `leakyrelu.arrays` is the public face."""

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Self, TypedDict, TypeVar, final

import numpy as np

class _Config(TypedDict):
    isa: str
    isa_available: list[str]
    num_threads: int
    usable_cpus: int
    cache_bytes: int

_P = ParamSpec("_P")
_R = TypeVar("_R")

leaky_relu: np.ufunc
leaky_relu_backward: np.ufunc
leaky_relu_inverse: np.ufunc

def leaky_relu_with_signs(x: Any, alpha: Any, out: np.ndarray | None = None, /) -> tuple[np.ndarray, np.ndarray]: ...
def leaky_relu_backward_from_signs(
    grad: Any, signs: np.ndarray, alpha: Any, out: np.ndarray | None = None, /
) -> np.ndarray: ...

# Of functions on tensors, which know memory by its address: (dtype, samples, channels, positions, channels last,
# threads). dtype is a value of DTYPES; threads is the largest number to compute on, 0 for as many as are allowed.
_TensorLayout = tuple[int, int, int, int, bool, int]

DTYPES: dict[str, int]

# Bytes from which memory is worth huge pages, and so a hint.
HUGE_PAGES_FROM: int

def begin_huge_page_hint(size: int, /) -> None: ...
def end_huge_page_hint() -> None: ...
def with_signs_at(layout: _TensorLayout, slope: float, x: int, y: int, signs: int, /) -> None: ...
def from_signs_at(layout: _TensorLayout, slope: float, grad: int, signs: int, out: int, /) -> None: ...

# Of data with a learned slope a channel; tables: the slopes, and what the output is divided by to give the input.
def prelu_forward_at(layout: _TensorLayout, weight: np.ndarray, x: int, y: int, signs: int, /) -> None: ...
def prelu_backward_at(
    layout: _TensorLayout, tables: np.ndarray, grad: int, given: int, signs: int, out: int, /
) -> np.ndarray: ...
def add_census_at(
    layout: _TensorLayout, low: float, ceiling: float, x: int, counts: np.ndarray, moments: np.ndarray, /
) -> None: ...

# `function`, with the usual calls of the operation `name` answered natively.
@final
class fast_path(Generic[_P, _R]):  # noqa: N801
    def __new__(cls, function: Callable[_P, _R], name: str, /) -> Self: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...

# Normalization followed by a Leaky ReLU (core/ops/norm.h).

# The numbers of a tensor of one axis, as (dtype, address), where dtype is a value of DTYPES.
_Numbers = tuple[int, int] | None

# (groups of channels of a sample that share statistics, or 0 for those of a channel over all samples; whether they are
# estimated from the data; slope; weight; bias)
_Layer = tuple[int, bool, float, _Numbers, _Numbers]

# bounds: the smallest and largest |weight| and the largest |bias / weight| of a channel that can be recovered from its
# output, the latter in units of the root mean square (spread) of its normalized input, 1 for given statistics. Returns
# the tables of the means and of the spreads where a channel cannot, and else None.
# running: mean, variance, and the weight with which a batch enters them.
def norm_forward_at(
    layout: _TensorLayout,
    layer: _Layer,
    eps: float,
    bounds: tuple[float, float, float],
    running: tuple[_Numbers, _Numbers, float] | None,
    x: int,
    y: int,
    invstd: int,
    /,
) -> np.ndarray | None: ...

# kept: the layout of the other two; the indices (int64) of the channels whose normalized input was kept; that input;
# and grad * f'(y) in these channels, over which the gradient is written. The last two are contiguous, in the compute
# type. out may be 0: only the gradients of weight and bias.
def norm_backward_at(
    layout: _TensorLayout,
    layer: _Layer,
    kept: tuple[_TensorLayout, int, int, int] | None,
    grad: int,
    y: int,
    invstd: int,
    out: int,
    grad_weight: _Numbers,
    grad_bias: _Numbers,
    /,
) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
def share_openmp(address: int, /) -> None: ...
def config() -> _Config: ...
