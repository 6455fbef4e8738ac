"""Whether a call of PyTorch is eager: no mode, transform or tracer stands between it and the memory of the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._C import _get_function_stack_at, _len_torch_function_stack
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

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
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._get_tracing_state()
        # A graph that is written down for others, such as an exporter, is to hold PyTorch's own operator.
        and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is None
        and not (_len_torch_function_stack() and _has_function_mode())
        and forward_ad._current_level < 0
    )


def _is_eager() -> bool:
    """Whether no transform, mode or tracer stands between this call and the memory of the tensors."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state()
        or (_len_torch_function_stack() and _has_function_mode())
    )


def _has_function_mode() -> bool:
    return any(type(_get_function_stack_at(k)) not in TRANSPARENT for k in range(_len_torch_function_stack()))


def is_watched() -> bool:
    """Whether a mode is open that wants to see every call of `leaky_relu`."""
    depth = _len_torch_function_stack()
    return bool(depth) and any(hasattr(_get_function_stack_at(k), "saw_leaky_relu") for k in range(depth))


def _announce(x: Tensor, slope: float) -> None:
    """Tell modes that count calls of this one, which PyTorch does not show them."""
    for k in range(_len_torch_function_stack()):
        mode: Any = _get_function_stack_at(k)
        if hasattr(mode, "saw_leaky_relu"):
            mode.saw_leaky_relu(x, slope)
