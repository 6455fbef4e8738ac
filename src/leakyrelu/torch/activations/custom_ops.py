"""The two halves of the layer as operators of PyTorch, for whoever watches or rewrites what runs.

    torch.ops.leakyrelu.with_signs(Tensor x, float slope) -> (Tensor y, Tensor signs)
    torch.ops.leakyrelu.from_signs(Tensor grad, Tensor signs, float slope, SymInt[] strides) -> Tensor

They compute what `functional.py` computes, with the same kernels and the same bits, and have what PyTorch asks of an
operator: shapes without values (fake tensors, `torch.compile`), derivatives of every order, and a rule for
`torch.vmap`. `strides` is the layout in which the signs were taken, that of y. The dispatcher takes longer than the
kernels of a small tensor, so eager calls do not come this way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence  # noqa: TC003 - PyTorch reads the annotations at run time
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.torch.activations.kernels import from_signs, with_signs
from leakyrelu.torch.activations.packed_signs import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor


@torch.library.custom_op("leakyrelu::with_signs", mutates_args=())
def op_with_signs(x: torch.Tensor, slope: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x where x > 0, slope * x elsewhere; and the packed signs in the memory order of the result."""
    y, signs, _ = with_signs(x, slope, False)
    return y, signs


@torch.library.custom_op("leakyrelu::from_signs", mutates_args=())
def op_from_signs(grad: torch.Tensor, signs: torch.Tensor, slope: float, strides: Sequence[int]) -> torch.Tensor:
    """Return grad where the bit is 1, slope * grad elsewhere."""
    return from_signs(grad, signs, slope, grad.shape, tuple(strides))


@op_with_signs.register_fake
def _(x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    return torch.ops.aten.leaky_relu(x, slope), x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)


@op_from_signs.register_fake
def _(grad: Tensor, signs: Tensor, slope: float, strides: Sequence[int]) -> Tensor:
    return grad.new_empty_strided(grad.shape, tuple(strides))


def _keep_signs(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
    y, signs = output
    ctx.save_for_backward(signs)
    ctx.mark_non_differentiable(signs)
    ctx.rule = (inputs[1], y.stride())


def _keep_signs_again(ctx: Any, inputs: tuple[Tensor, Tensor, float, Sequence[int]], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.rule = inputs[2:]


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None]:
    return op_from_signs(grad, *ctx.saved_tensors, *ctx.rule), None


def _backward_again(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return op_from_signs(grad, *ctx.saved_tensors, *ctx.rule), None, None, None


op_with_signs.register_autograd(_backward, setup_context=_keep_signs)
op_from_signs.register_autograd(_backward_again, setup_context=_keep_signs_again)


# Under vmap each example has signs of its own, packed in the order of the (contiguous) example.


@op_with_signs.register_vmap
def _(info: Any, dims: tuple[int, None], x: Tensor, slope: float) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    x = x.movedim(dims[0], 0).contiguous()
    return (torch.ops.aten.leaky_relu(x, slope), _pack_rows(x > 0)), (0, 0)


@op_from_signs.register_vmap
def _(
    info: Any, dims: tuple[int | None, int | None, None, None], grad: Tensor, signs: Tensor, slope: float, strides: Any
) -> tuple[Tensor, int]:
    grad = grad.movedim(dims[0], 0) if dims[0] is not None else grad.expand(info.batch_size, *grad.shape)
    signs = signs.movedim(dims[1], 0) if dims[1] is not None else signs.expand(info.batch_size, -1)
    shape = grad.shape[1:]
    stand_in = torch.stack([unpack(row, shape, tuple(strides), grad.dtype) for row in signs.contiguous()])
    return torch.ops.aten.leaky_relu_backward(grad, stand_in, slope, False), 0


def _pack_rows(mask: Tensor) -> Tensor:
    n = math.prod(mask.shape[1:])
    rows = torch.nn.functional.pad(mask.reshape(mask.shape[0], n), (0, -n % 8)).contiguous()
    return pack(rows).reshape(mask.shape[0], (n + 7) // 8)
