"""Leaky ReLU, complete: compute it, train with it, diagnose its units, choose its slope.

``leakyrelu`` holds the array functions and imports NumPy alone. The other rooms are imported by name:
``leakyrelu.slope`` (NumPy), ``leakyrelu.torch`` (extra ``torch``), and the command ``leakyrelu`` (extra ``all``).
"""

from leakyrelu.arrays import (
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_backward_from_signs,
    leaky_relu_inverse,
    leaky_relu_with_signs,
)

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_relu_backward_from_signs",
    "leaky_relu_inverse",
    "leaky_relu_with_signs",
]
