"""Checks for active modes, transforms and tracers, under which a call has to go to PyTorch's own function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.compiler import is_compiling

from leakyrelu.torch._compat import (
    DeviceContext,
    are_transforms_active,
    count_dispatch_modes,
    count_function_modes,
    function_mode,
    is_tracing,
    writes_graph,
)

if TYPE_CHECKING:
    from torch import Tensor


PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

TRANSPARENT: set[type] = {DeviceContext}
"""Modes of `torch.overrides` that change nothing about a call and need not see inside it."""


def needs_standard_functions() -> bool:
    """Whether a compiler, tracer, transform or mode is active that has to see PyTorch's own functions.

    A dispatch mode sees operators, and takes those of `custom_ops.py`; but a graph that is recorded for others, by an
    exporter, is to hold PyTorch's own.
    """
    return (
        is_compiling()
        or are_transforms_active()
        or is_tracing()
        or (count_dispatch_modes() > 0 and writes_graph())
        or (
            count_function_modes() > 0
            and any(type(function_mode(k)) not in TRANSPARENT for k in range(count_function_modes()))
        )
    )


def is_eager() -> bool:
    """Whether no transform, mode or tracer is active between this call and the memory of the tensors."""
    return not (needs_standard_functions() or count_dispatch_modes())


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels take a tensor's dtype and layout."""
    return x.dtype in _DTYPES and x.layout is torch.strided and not (x.is_meta or x.is_nested)


def observers() -> list[Any]:
    """Return the active modes that observe calls of `leaky_relu`: PyTorch shows them calls of its own functions."""
    modes = (function_mode(k) for k in range(count_function_modes()))
    return [mode for mode in modes if hasattr(mode, "observe_leaky_relu")]
