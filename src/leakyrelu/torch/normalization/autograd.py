"""The autograd function of a normalization followed by a Leaky ReLU, which keeps only its output.

    v = w * xhat + b,  xhat = (x - mean) / sqrt(var + eps),  y = f(v),  f(v) = v if v > 0 else slope * v

For a positive slope f can be inverted, so the backward pass recovers v = f^-1(y) and xhat = (v - b) / w from the
output, which the next layer keeps anyway (In-Place Activated BatchNorm: Rota Bulo, Porzi, Kontschieder, CVPR 2018). Of
the input nothing is kept but 1 / sqrt(var + eps), one number for each statistic.

Rounding. y is rounded once, so the recovered xhat is off by at most about 2 eps (|xhat| + |b / w|), with eps the
spacing of the dtype at 1. A channel is inverted only where |b| <= limit |w| rms(xhat), which bounds the second term,
and where neither w nor slope * w is so small, or so large, that numbers near 1 would leave the normal range of the
dtype. The other channels keep their own xhat: those with w = 0, and, unless b = 0, those whose variance is small beside
eps, all-zero inputs among them. (Of given statistics rms(xhat) is taken for 1.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.torch._compat import apply_of, is_batched_gradient
from leakyrelu.torch.activations.eager import PLAIN_TENSORS, is_eager
from leakyrelu.torch.activations.invertible import poorly_inverted
from leakyrelu.torch.activations.kernels import NATIVE_DTYPES
from leakyrelu.torch.normalization import native, plain
from leakyrelu.torch.normalization.statistics import Kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from leakyrelu.torch.normalization.statistics import Normalization, Running


def normalize(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, normalization: Normalization, running: Running | None
) -> Tensor:
    """Return f(normalized x) for data of shape (N, channels, ...) with at least three axes."""
    return _apply(x, weight, bias, normalization, running)[0]


class _NormLeakyReLU(torch.autograd.Function):
    """(x, weight, bias) -> (y, 1 / sqrt(var + eps), xhat of the channels that cannot be inverted, or None).

    The second and third are outputs so that the backward pass, which uses them, can be differentiated in its turn.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        normalization: Normalization,
        running: Running | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        x = _laid_out(x, normalization)
        tables = () if running is None else (running.mean, running.var)
        mean: Tensor | None
        spread: Tensor | None
        if _is_native(x, normalization) and native.takes(weight, bias, *tables):
            y, invstd, mean, spread = native.forward(x, weight, bias, normalization, running)
            ctx.count = normalization.count(x.shape)
        else:
            y, invstd, mean, spread, ctx.count = plain.forward(x, weight, bias, normalization, running)
        channels = None if mean is None else poorly_inverted(weight, bias, normalization.slope, x.dtype, spread)
        xhat = None
        if channels is not None:
            assert mean is not None
            xhat = plain.normalized(x, mean, invstd, channels)
        if not normalization.estimate:
            ctx.mark_non_differentiable(invstd)
        ctx.save_for_backward(y, weight, bias, invstd, xhat)
        ctx.set_materialize_grads(False)
        ctx.normalization, ctx.channels = normalization, channels
        return y, invstd, xhat

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_invstd: Tensor | None, grad_xhat: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        normalization: Normalization = ctx.normalization
        y, weight, bias, invstd, xhat = ctx.saved_tensors
        differentiable = torch.is_grad_enabled()
        if differentiable and normalization.process_group is not None:
            raise RuntimeError(
                "a second derivative through statistics that several processes share does not exist: PyTorch's "
                "collectives have no derivative. Use nn.BatchNorm in place of nn.SyncBatchNorm, or first derivatives"
            )
        if grad is None:
            if grad_invstd is None and grad_xhat is None:
                return None, None, None, None, None
            grad = torch.zeros_like(y)
        kept = None if xhat is None else Kept(ctx.channels, xhat)
        wants_input = ctx.needs_input_grad[0]
        if (
            not differentiable
            and grad_invstd is None
            and grad_xhat is None
            and _is_native(grad, normalization)
            and native.takes(weight, bias, invstd)
        ):
            grads = native.backward(grad, y, weight, bias, invstd, kept, normalization, wants_input)
        else:
            of_outputs = grad, grad_invstd, grad_xhat
            grads = plain.backward(*of_outputs, y, weight, bias, invstd, kept, normalization, ctx.count, wants_input)
        return *grads, None, None


_apply: Callable[..., tuple[Tensor, Tensor, Tensor | None]] = apply_of(_NormLeakyReLU)


def _is_native(x: Tensor, normalization: Normalization) -> bool:
    """Whether the native core computes on such data or gradient, which may be batched, or in a mode, when x was not."""
    return (
        x.is_cpu
        and x.dtype in NATIVE_DTYPES
        and type(x) in PLAIN_TENSORS
        and normalization.process_group is None
        and not is_batched_gradient(x)
        and not x.is_neg()
        and is_eager()
    )


def _laid_out(x: Tensor, normalization: Normalization) -> Tensor:
    """Return the data in the layout of the pair's output: channels-last stays channels-last, except for instances."""
    if x.is_contiguous():
        return x
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if layout is not None and normalization.shared != "instance" and x.is_contiguous(memory_format=layout):
        return x
    return x.contiguous()
