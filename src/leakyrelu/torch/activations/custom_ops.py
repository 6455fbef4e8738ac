"""The kernels of `leaky_relu` as registered operators, for dispatch modes and fake tensors.

    leakyrelu::with_signs(Tensor x, float slope) -> (Tensor y, Tensor signs)
    leakyrelu::with_signs_(Tensor(a!) x, float slope) -> Tensor signs
    leakyrelu::from_signs(Tensor grad, Tensor signs, float slope, SymInt[] strides) -> Tensor

`strides` is the layout in which the signs were taken, that of y. The operators have no derivatives: the autograd
functions of functional.py call them. Where no mode is active these call the kernels, since PyTorch's dispatcher takes
some microseconds for a kernel in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.torch.activations import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


_library: Any = torch.library.Library("leakyrelu", "DEF")  # type: ignore[no-untyped-call]


def _register(signature: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    name = signature.partition("(")[0]
    _library.define(signature, tags=torch.Tag.pt2_compliant_tag)
    _library.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"leakyrelu::{name}", fake, lib=_library)
    return getattr(torch.ops.leakyrelu, name).default


def _fake_signs(x: Tensor, slope: float) -> Tensor:
    return x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)


def _fake_result(x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    return torch.ops.aten.leaky_relu(x, slope), _fake_signs(x, slope)


def _fake_gradient(grad: Tensor, signs: Tensor, slope: float, strides: Sequence[int]) -> Tensor:
    return grad.new_empty_strided(grad.shape, strides)


with_signs: Callable[[Tensor, float], tuple[Tensor, Tensor]] = _register(
    "with_signs(Tensor x, float slope) -> (Tensor y, Tensor signs)", kernels.with_signs, _fake_result
)
with_signs_: Callable[[Tensor, float], Tensor] = _register(
    "with_signs_(Tensor(a!) x, float slope) -> Tensor signs", kernels.with_signs_, _fake_signs
)
from_signs: Callable[[Tensor, Tensor, float, Sequence[int]], Tensor] = _register(
    "from_signs(Tensor grad, Tensor signs, float slope, SymInt[] strides) -> Tensor",
    kernels.from_signs,
    _fake_gradient,
)
