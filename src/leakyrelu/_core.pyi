"""The native part: NumPy ufuncs and plain functions. `leakyrelu.arrays` is the public face."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar

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
def with_signs_at(dtype: int, slope: float, n: int, threads: int, x: int, y: int, signs: int, /) -> None: ...
def from_signs_at(dtype: int, slope: float, n: int, threads: int, grad: int, signs: int, out: int, /) -> None: ...
def make_room(size: int, /) -> None: ...
def leave_room() -> None: ...

# (dtype, samples, channels, positions, channels last) of data with a learned slope a channel (core/prelu_kernel.h).
_Channels = tuple[int, int, int, int, bool]

def prelu_forward_at(layout: _Channels, threads: int, weight: np.ndarray, x: int, y: int, signs: int, /) -> None: ...
def prelu_backward_at(
    layout: _Channels, threads: int, tables: np.ndarray, grad: int, given: int, signs: int, out: int, /
) -> np.ndarray: ...
def add_census(
    x: np.ndarray,
    bfloat16: bool,
    outer: int,
    channels: int,
    inner: int,
    low: float,
    ceiling: float,
    counts: np.ndarray,
    moments: np.ndarray,
    /,
) -> None: ...
def add_census_at(
    dtype: int,
    address: int,
    outer: int,
    channels: int,
    inner: int,
    low: float,
    ceiling: float,
    counts: np.ndarray,
    moments: np.ndarray,
    threads: int,
    /,
) -> None: ...
def shortcut(function: Callable[_P, _R], name: str, /) -> Callable[_P, _R]: ...

# Normalization followed by a Leaky ReLU (core/ops/norm.h). The layout names the dtype, then samples, channels,
# positions, whether the channels come last, and at most how many threads, if that is not all that are allowed.
_Layout = tuple[str, int, int, int, bool] | tuple[str, int, int, int, bool, int]

# Numbers as (dtype, address), where dtype is an index of the enumeration DType (core/kernel.h).
_Numbers = tuple[int, int] | None

# (groups, or 0 for statistics of a channel over all samples; estimate; alpha; weight; bias)
_Layer = tuple[int, bool, float, _Numbers, _Numbers]

# Data by address. running: mean, variance, and the weight with which the batch enters them; bounds: the smallest and
# largest |weight| and the largest |bias / weight| of a channel that can be told from its output. Where one cannot, the
# means come back, and else None. kept: indices (int64) of the channels whose normalized input was kept, that input, and
# grad * f'(y) in these channels, over which the gradient is written; the last two contiguous, in the compute type.
def norm_forward(
    x: int,
    y: int,
    invstd: int,
    running: tuple[_Numbers, _Numbers, float] | None,
    eps: float,
    bounds: tuple[float, float, float],
    layer: _Layer,
    layout: _Layout,
    /,
) -> np.ndarray | None: ...
def norm_backward(
    grad: int,
    y: int,
    invstd: int,
    out: int,
    grad_weight: _Numbers,
    grad_bias: _Numbers,
    kept: tuple[int, int, int, _Layout] | None,
    layer: _Layer,
    layout: _Layout,
    /,
) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
def share_openmp(address: int, /) -> None: ...
def config() -> _Config: ...
