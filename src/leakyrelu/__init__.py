"""Leaky ReLU, complete: compute it, train with it, diagnose its units, choose its slope.

``leakyrelu`` holds the array functions and imports NumPy alone. The other packages are imported by name:
``leakyrelu.slope`` (NumPy), ``leakyrelu.torch`` (extra ``torch``), and the command ``leakyrelu`` (extra ``all``).
"""

from leakyrelu import _moved  # noqa: F401 - modules of version 0.1 under their old names
from leakyrelu._version import __version__
from leakyrelu.arrays import (
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_backward_from_signs,
    leaky_relu_inverse,
    leaky_relu_with_signs,
)
from leakyrelu.config import get_num_threads, set_num_threads, show_config

__all__ = [
    "__version__",
    "get_num_threads",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_relu_backward_from_signs",
    "leaky_relu_inverse",
    "leaky_relu_with_signs",
    "set_num_threads",
    "show_config",
]
