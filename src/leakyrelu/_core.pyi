"""The native part: NumPy ufuncs and plain functions. `leakyrelu.arrays` is the public face."""

from typing import Any, TypedDict

import numpy as np

class _Config(TypedDict):
    isa: str
    isa_available: list[str]

leaky_relu: np.ufunc
leaky_relu_backward: np.ufunc
leaky_relu_inverse: np.ufunc

def leaky_relu_with_signs(x: Any, alpha: Any, out: np.ndarray | None = None, /) -> tuple[np.ndarray, np.ndarray]: ...
def leaky_relu_backward_from_signs(
    grad: Any, signs: np.ndarray, alpha: Any, out: np.ndarray | None = None, /
) -> np.ndarray: ...
def config() -> _Config: ...
