"""The native part: NumPy ufuncs and plain functions. `leakyrelu.arrays` is the public face."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar

import numpy as np

class _Config(TypedDict):
    isa: str
    isa_available: list[str]
    num_threads: int
    usable_cpus: int

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
def shortcut(function: Callable[_P, _R], name: str, /) -> Callable[_P, _R]: ...

# Normalization followed by a Leaky ReLU (core/norm_kernel.h). 16-bit types come as int16 arrays; the layout names the
# dtype, then samples, channels, positions, and whether the channels come last. Tables: float64, (k, 1 or samples,
# channels), and results one table each, (samples, channels).
_Layout = tuple[str, int, int, int, bool]

# (groups, or 0 for statistics of a channel over all samples; estimate; alpha; weight; bias)
_Layer = tuple[int, bool, float, np.ndarray | None, np.ndarray | None]

def norm_forward(
    x: np.ndarray,
    y: np.ndarray,
    mean: np.ndarray | None,
    var: np.ndarray | None,
    eps: float,
    layer: _Layer,
    layout: _Layout,
    /,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
def norm_backward(
    grad: np.ndarray,
    y: np.ndarray,
    invstd: np.ndarray,
    out: np.ndarray | None,
    layer: _Layer,
    layout: _Layout,
    /,
) -> tuple[np.ndarray, np.ndarray]: ...
def norm_moments(x: np.ndarray, layout: _Layout, /) -> tuple[np.ndarray, np.ndarray]: ...
def norm_activate(x: np.ndarray, tables: np.ndarray, alpha: float, y: np.ndarray, layout: _Layout, /) -> None: ...
def norm_sums(
    grad: np.ndarray, y: np.ndarray, bias: np.ndarray, alpha: float, layout: _Layout, /
) -> tuple[np.ndarray, np.ndarray]: ...
def norm_combine(
    grad: np.ndarray, y: np.ndarray, tables: np.ndarray, alpha: float, out: np.ndarray, layout: _Layout, /
) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
def share_openmp(address: int, /) -> None: ...
def config() -> _Config: ...
