"""Whether a call of PyTorch is eager: no mode, transform or tracer stands between it and the memory of the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.torch._compat import (
    DeviceContext,
    FakeTensor,
    are_transforms_active,
    count_dispatch_modes,
    count_function_modes,
    function_mode,
    in_forward_mode,
    is_tracing,
    writes_graph,
)

if TYPE_CHECKING:
    from torch import Tensor


_PLAIN = (torch.Tensor, torch.nn.Parameter)
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

TRANSPARENT: set[type] = {DeviceContext}
"""Modes of `torch.overrides` that change nothing about a call and need not see inside it."""


def _is_watched(x: Any) -> bool:
    """Whether a dispatch mode, and nothing else, stands between the call and the kernels."""
    return (
        (type(x) in _PLAIN or type(x) is FakeTensor)
        and x.requires_grad
        and torch.is_grad_enabled()
        and x.dtype in _DTYPES
        and x.layout is torch.strided
        and not x.is_nested
        and not are_transforms_active()
        and not is_tracing()
        # A graph that is written down for others, such as an exporter, is to hold PyTorch's own operator.
        and not writes_graph()
        and not (count_function_modes() and _has_function_mode())
        and not in_forward_mode()
    )


def _is_eager() -> bool:
    """Whether no transform, mode or tracer stands between this call and the memory of the tensors."""
    return not (
        torch.compiler.is_compiling()
        or are_transforms_active()
        or count_dispatch_modes()
        or is_tracing()
        or (count_function_modes() and _has_function_mode())
    )


def _has_function_mode() -> bool:
    return any(type(function_mode(k)) not in TRANSPARENT for k in range(count_function_modes()))


def is_watched() -> bool:
    """Whether a mode is open that wants to see every call of `leaky_relu`."""
    depth = count_function_modes()
    return bool(depth) and any(hasattr(function_mode(k), "observe_leaky_relu") for k in range(depth))


def _announce(x: Tensor, slope: float) -> None:
    """Tell modes that count calls of this one, which PyTorch does not show them."""
    for k in range(count_function_modes()):
        mode: Any = function_mode(k)
        if hasattr(mode, "observe_leaky_relu"):
            mode.observe_leaky_relu(x, slope)
