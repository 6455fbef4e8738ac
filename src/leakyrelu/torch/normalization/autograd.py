"""A normalization followed by a Leaky ReLU, as one function that keeps only its output.

    v = w * xhat + b,  xhat = (x - mean) / sqrt(var + eps),  y = f(v),  f(v) = v if v > 0 else slope * v

For a positive slope f can be inverted, so the backward pass finds v = f^-1(y) and xhat = (v - b) / w in the output,
which the next layer keeps anyway (In-Place Activated BatchNorm: Rota Bulo, Porzi, Kontschieder, CVPR 2018). Of the
input nothing is kept but 1 / sqrt(var + eps), one number for each statistic.

Rounding. y is rounded once, so the recovered xhat is off by at most about 2 eps (|xhat| + |b / w|), with eps the
spacing of the dtype at 1. A channel is inverted only where |b| <= limit |w|, which bounds the second term, and where
neither w nor slope * w is so small, or so large, that numbers near 1 would leave the normal range of the dtype. The
other channels, w = 0 among them, keep their own xhat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from leakyrelu.torch._compat import apply_of, is_batched_gradient
from leakyrelu.torch.activations.eager import _PLAIN, _is_eager
from leakyrelu.torch.activations.invertible import bounds, poorly_inverted
from leakyrelu.torch.normalization import native
from leakyrelu.torch.normalization.native import Native
from leakyrelu.torch.normalization.passes import Plain, compute_dtype, over, total

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor

    from leakyrelu.torch.normalization.passes import Passes
    from leakyrelu.torch.normalization.statistics import Rule, Running


__all__ = ["normalize"]


NATIVE: Collection[torch.dtype] = Native.dtypes
"""Dtypes of CPU tensors that the native kernels compute."""


def normalize(x: Tensor, weight: Tensor | None, bias: Tensor | None, rule: Rule, running: Running | None) -> Tensor:
    """Return f(normalized x) for data of shape (N, channels, ...) with at least three axes."""
    return _apply(x, weight, bias, rule, running)[0]


class _NormLeakyReLU(torch.autograd.Function):
    """(x, weight, bias) -> (y, 1 / sqrt(var + eps), xhat of the channels that cannot be inverted, or None).

    The second and third are outputs so that the backward pass, which uses them, can be differentiated in its turn.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, rule: Rule, running: Running | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        x = _laid_out(x, rule)
        passes = _passes(x, rule.slope)
        tables = () if running is None else (running.mean, running.var)
        if isinstance(passes, Native) and rule.process_group is None and native.takes(weight, bias, *tables):
            of = _layer(rule, weight, bias, x)
            y, invstd, mean = native.forward(x, running, rule.eps, bounds(rule.slope, x.dtype), of)
            count = rule.count(x.shape)
            poor = None if mean is None else poorly_inverted(weight, bias, rule.slope, x.dtype)
        else:
            if rule.estimate:
                mean, var, count = _statistics(x, rule, passes)
            else:
                assert running is not None
                mean, var = (table.to(compute_dtype(x.dtype)).unsqueeze(0) for table in tables)
                count = 0
            invstd = (var + rule.eps).rsqrt()
            w, b = _affine(weight, bias, x)
            y = passes.activate(x, mean, invstd * w, b)
            if rule.estimate and running is not None:
                running.update(mean, var, count)
            poor = poorly_inverted(weight, bias, rule.slope, x.dtype)
        xhat = None
        if poor is not None:
            assert mean is not None
            # The same pass with w = 1, b = 0 and the slope 1.
            mean_there, invstd_there = mean.index_select(1, poor), invstd.index_select(1, poor)
            xhat = Plain(1.0).activate(x.index_select(1, poor), mean_there, invstd_there, mean.new_zeros(1, len(poor)))
        invstd = invstd.to(compute_dtype(x.dtype))
        if not rule.estimate:
            ctx.mark_non_differentiable(invstd)
        ctx.save_for_backward(y, weight, bias, invstd, xhat)
        ctx.set_materialize_grads(False)
        ctx.rule, ctx.poor, ctx.count = rule, poor, count
        return y, invstd, xhat

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_invstd: Tensor | None, grad_xhat: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        rule: Rule = ctx.rule
        y, weight, bias, invstd, xhat = ctx.saved_tensors
        differentiable = torch.is_grad_enabled()
        if differentiable and rule.process_group is not None:
            raise RuntimeError(
                "a second derivative through statistics that several processes share does not exist: PyTorch's "
                "collectives have no derivative. Use nn.BatchNorm in place of nn.SyncBatchNorm, or first derivatives"
            )
        if grad is None:
            if grad_invstd is None and grad_xhat is None:
                return None, None, None, None, None
            grad = torch.zeros_like(y)
        passes = Plain(rule.slope) if differentiable else _passes(grad, rule.slope)
        wants_input = ctx.needs_input_grad[0]
        if (
            isinstance(passes, Native)
            and rule.process_group is None
            and xhat is None
            and grad_invstd is None
            and native.takes(weight, bias, invstd)
        ):
            of = _layer(rule, weight, bias, y)
            grad_x, grad_w, grad_b = native.backward(grad, y, invstd, of, wants_input, weight, bias)
        else:
            affine = _affine(weight, bias, y)
            grad_x, grad_w, grad_b = _gradients(
                grad, grad_invstd, grad_xhat, y, affine, invstd, xhat, ctx, passes, wants_input
            )
        return (
            grad_x,
            None if weight is None or grad_w is None else grad_w.to(weight.dtype),
            None if bias is None or grad_b is None else grad_b.to(bias.dtype),
            None,
            None,
        )


# What `Function.apply` does before this is for `torch.func`, which never gets here.
_apply: Callable[..., tuple[Tensor, Tensor, Tensor | None]] = apply_of(_NormLeakyReLU)


def _gradients(
    grad: Tensor,
    grad_invstd: Tensor | None,
    grad_xhat: Tensor | None,
    y: Tensor,
    affine: tuple[Tensor, Tensor],
    invstd: Tensor,
    xhat: Tensor | None,
    ctx: Any,
    passes: Passes,
    wants_input: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of x, w and b. Every step is an operation that PyTorch can differentiate.

    With h = grad * f'(y), the gradient of xhat is g = w * h (+ grad_xhat), and with the means over what shares a
    statistic, grad_x = invstd * (g - mean(g) - xhat * mean(g * xhat)), less what comes through invstd itself:
    d invstd / dx = -invstd^2 * xhat / count.
    """
    rule: Rule = ctx.rule
    poor: Tensor | None = ctx.poor
    w, b = affine
    whole = rule.shared == "batch"
    plain = Plain(rule.slope)
    sum_h, sum_hu = passes.sums(grad, y, b, whole)
    if poor is None:
        divisor = w
        sum_hx = sum_hu / w
    else:
        assert xhat is not None
        divisor = w.index_fill(1, poor, 1.0)
        h_poor = plain.scale(grad.index_select(1, poor), y.index_select(1, poor) > 0)
        wide = xhat.to(compute_dtype(xhat.dtype))
        if sum_hu.shape[0] != (1 if whole else y.shape[0]):
            sum_h, sum_hu = sum_h.sum(0, keepdim=True), sum_hu.sum(0, keepdim=True)
        sum_hx = (sum_hu / divisor).index_copy(1, poor, total(h_poor * wide, whole).to(sum_h.dtype))
    grad_w, grad_b = sum_hx.sum(0), sum_h.sum(0)
    if not wants_input:
        return None, grad_w, grad_b

    p, q, r = invstd * w, torch.zeros_like(invstd), torch.zeros_like(invstd)
    if rule.estimate:
        sum_g, sum_gx = w * sum_h, w * sum_hx
        if poor is not None and grad_xhat is not None:
            extra = grad_xhat.to(wide.dtype)
            sum_g = sum_g.index_add(1, poor, total(extra, whole).to(sum_h.dtype))
            sum_gx = sum_gx.index_add(1, poor, total(extra * wide, whole).to(sum_h.dtype))
        sum_g, sum_gx = rule.total(sum_g), rule.total(sum_gx)
        if rule.process_group is not None:
            sum_g, sum_gx = _summed_over_processes(torch.stack((sum_g, sum_gx)), rule.process_group)
        r = -invstd * sum_g / ctx.count
        q = -invstd * sum_gx / ctx.count
        if grad_invstd is not None:
            q = q - invstd.square() * rule.total(grad_invstd) / ctx.count
    grad_x = passes.combine(grad, y, b, p, q / divisor, r)
    if poor is not None:

        def there(table: Tensor) -> Tensor:
            return over(table.index_select(1, poor), y)

        grad_poor = there(p) * h_poor + there(q) * wide + there(r)
        if grad_xhat is not None:
            grad_poor = grad_poor + there(invstd) * grad_xhat
        grad_x = grad_x.index_copy(1, poor, grad_poor.to(grad_x.dtype))
    return grad_x, grad_w, grad_b


def _passes(x: Tensor, slope: float) -> Passes:
    """Choose for data, or for a gradient, which may be batched, or seen by a mode, where the data were not."""
    native = (
        x.is_cpu
        and x.dtype in NATIVE
        and type(x) in _PLAIN
        and not is_batched_gradient(x)
        and not x.is_neg()
        and _is_eager()
    )
    return Native(slope) if native else Plain(slope)


def _layer(rule: Rule, weight: Tensor | None, bias: Tensor | None, x: Tensor) -> native.Layer:
    groups = {"batch": 0, "instance": x.shape[1], "group": rule.groups}[rule.shared]
    return native.layer(groups, rule.estimate, rule.slope, weight, bias)


def _laid_out(x: Tensor, rule: Rule) -> Tensor:
    """Return the data in the layout of the pair's output: channels-last stays so, but for instances."""
    if x.is_contiguous():
        return x
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if layout is not None and rule.shared != "instance" and x.is_contiguous(memory_format=layout):
        return x
    return x.contiguous()


def _affine(weight: Tensor | None, bias: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return w and b as tables, in the type that such data are computed in."""
    dtype = compute_dtype(x.dtype)
    shape = (1, x.shape[1])
    w = x.new_ones(shape, dtype=dtype) if weight is None else weight.to(dtype).reshape(shape)
    b = x.new_zeros(shape, dtype=dtype) if bias is None else bias.to(dtype).reshape(shape)
    return w, b


def _statistics(x: Tensor, rule: Rule, passes: Passes) -> tuple[Tensor, Tensor, int]:
    """Return mean, biased variance, and the number of elements behind them."""
    means, squares = passes.moments(x, rule.shared == "batch")
    count = rule.count(x.shape)
    share = x.numel() // means.numel() / count  # of the elements of a statistic that one number of the table stands for
    mean = rule.total(means) * share
    var = rule.total(squares) / count + rule.total((means - mean).square()) * share
    if rule.process_group is None:
        return mean, var, count
    return _over_processes(mean, var, count, rule.process_group)


def _over_processes(mean: Tensor, var: Tensor, count: int, group: Any) -> tuple[Tensor, Tensor, int]:
    """Merge the statistics of all processes of the group, whose batches may differ in size."""
    own = torch.cat((mean, var, torch.full_like(mean, count)))
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    means, variances, counts = torch.stack(parts, 1)
    total = counts.sum(0, keepdim=True)
    share = counts / total
    mean = (means * share).sum(0, keepdim=True)
    var = ((variances + (means - mean).square()) * share).sum(0, keepdim=True)
    return mean, var, int(total[0, 0])


def _summed_over_processes(table: Tensor, group: Any) -> Tensor:
    dist.all_reduce(table, group=group)
    return table
