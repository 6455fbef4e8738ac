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
def shortcut(function: Callable[_P, _R], name: str, /) -> Callable[_P, _R]: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
def config() -> _Config: ...
