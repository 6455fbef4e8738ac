"""Normalization and Leaky ReLU as one layer, in PyTorch operations, for any device, layout and number of processes.

Every operation is differentiable, so that the backward pass can be differentiated in its turn. A table is a tensor of
shape (1 or N, channels), one number for each channel of the whole batch or of each sample, and broadcasts over data of
shape (N, channels, ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

from leakyrelu.torch.normalization.statistics import compute_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from leakyrelu.torch.normalization.statistics import Kept, Normalization, Running


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, normalization: Normalization, running: Running | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, int]:
    """Return y, the tables 1 / sqrt(var + eps), mean and spread, and the number of elements of a statistic.

    The spread is the root mean square of the normalized input, None where the statistics are given.

    Updates the running statistics.
    """
    dtype = compute_dtype(x.dtype)
    if normalization.estimate:
        mean, var, count = _statistics(x.to(dtype), normalization)
    else:
        assert running is not None
        mean, var = (table.to(dtype).unsqueeze(0) for table in (running.mean, running.var))
        count = 0
    invstd = (var + normalization.eps).rsqrt()
    w, b = _affine(weight, bias, x)
    v = (x.to(dtype) - _over(mean, x)) * _over(invstd * w, x) + _over(b, x)
    y = F.leaky_relu(v, normalization.slope).to(x.dtype)
    if normalization.estimate and running is not None:
        running.update(mean, var, count)
    return y, invstd, mean, var.sqrt() * invstd if normalization.estimate else None, count


def normalized(x: Tensor, mean: Tensor, invstd: Tensor, channels: Tensor) -> Tensor:
    """Return (x - mean) / sqrt(var + eps) of some channels, given by their indices."""
    x, mean, invstd = (t.index_select(1, channels) for t in (x, mean, invstd))
    return ((x.to(compute_dtype(x.dtype)) - _over(mean, x)) * _over(invstd, x)).to(x.dtype)


def scaled(grad: Tensor, y: Tensor, slope: float) -> Tensor:
    """Return grad * f'(y), in the type it is computed in."""
    grad = grad.to(compute_dtype(grad.dtype))
    return torch.where(y > 0, grad, grad * slope)


def backward(
    grad: Tensor,
    grad_invstd: Tensor | None,
    grad_xhat: Tensor | None,
    y: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    invstd: Tensor,
    kept: Kept | None,
    normalization: Normalization,
    count: int,
    wants_input: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, weight and bias, from those of y, of 1 / sqrt(var + eps) and of the kept input.

    With h = grad * f'(y), the gradient of xhat is g = w * h (+ grad_xhat), and with the means over what shares a
    statistic, grad_x = invstd * (g - mean(g) - xhat * mean(g * xhat)), less what comes through invstd itself:
    d invstd / dx = -invstd^2 * xhat / count.
    """
    w, b = _affine(weight, bias, y)
    h = scaled(grad, y, normalization.slope)
    wide = y.to(h.dtype)
    u = torch.where(wide > 0, wide, wide / normalization.slope) - _over(b, y)
    if kept is None:
        xhat = u / _over(w, y)
    else:
        divisor = w.index_fill(1, kept.channels, 1.0)
        xhat = (u / _over(divisor, y)).index_copy(1, kept.channels, kept.xhat.to(h.dtype))

    whole = normalization.shared == "batch"
    sum_h, sum_hx = _total(h, whole), _total(h * xhat, whole)
    grad_w = None if weight is None else sum_hx.sum(0).to(weight.dtype)
    grad_b = None if bias is None else sum_h.sum(0).to(bias.dtype)
    if not wants_input:
        return None, grad_w, grad_b

    grad_x = h * _over(invstd * w, y)
    if kept is not None and grad_xhat is not None:
        grad_xhat = grad_xhat.to(h.dtype)
        grad_x = grad_x.index_add(1, kept.channels, grad_xhat * _over(invstd.index_select(1, kept.channels), y))
    if normalization.estimate:
        sum_g, sum_gx = w * sum_h, w * sum_hx
        if kept is not None and grad_xhat is not None:
            sum_g = sum_g.index_add(1, kept.channels, _total(grad_xhat, whole))
            sum_gx = sum_gx.index_add(1, kept.channels, _total(grad_xhat * kept.xhat, whole))
        sum_g, sum_gx = normalization.total(sum_g), normalization.total(sum_gx)
        if normalization.process_group is not None:
            sums = torch.stack((sum_g, sum_gx))
            dist.all_reduce(sums, group=normalization.process_group)
            sum_g, sum_gx = sums
        of_xhat = -invstd * sum_gx / count
        if grad_invstd is not None:
            of_xhat = of_xhat - invstd.square() * normalization.total(grad_invstd) / count
        grad_x = grad_x + xhat * _over(of_xhat, y) - _over(invstd * sum_g / count, y)
    return grad_x.to(y.dtype), grad_w, grad_b


def _affine(weight: Tensor | None, bias: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return w and b as tables, in the type that such data are computed in."""
    dtype = compute_dtype(x.dtype)
    shape = (1, x.shape[1])
    w = x.new_ones(shape, dtype=dtype) if weight is None else weight.to(dtype).reshape(shape)
    b = x.new_zeros(shape, dtype=dtype) if bias is None else bias.to(dtype).reshape(shape)
    return w, b


def _over(table: Tensor, x: Tensor) -> Tensor:
    """Give a table the shape in which it broadcasts over the data, and the type that these are computed in."""
    return table.to(compute_dtype(x.dtype)).reshape(table.shape + (1,) * (x.ndim - 2))


def _total(x: Tensor, whole: bool) -> Tensor:
    """Sum data over their positions, and over the samples if `whole`, into a table."""
    return _as_table(x.sum(_summed(x, whole)), whole)


def _as_table(sums: Tensor, whole: bool) -> Tensor:
    return sums.unsqueeze(0) if whole else sums


def _summed(x: Tensor, whole: bool) -> list[int]:
    return [axis for axis in range(x.ndim) if axis > 1 or (whole and axis == 0)]


def _statistics(x: Tensor, normalization: Normalization) -> tuple[Tensor, Tensor, int]:
    """Return mean, biased variance, and the number of elements behind them."""
    whole = normalization.shared == "batch"
    variances, means = (_as_table(t, whole) for t in torch.var_mean(x, _summed(x, whole), correction=0))
    count = normalization.count(x.shape)
    share = x.numel() // means.numel() / count  # the part of a statistic's elements that an entry of the table covers
    mean = normalization.total(means) * share
    var = normalization.total(variances + (means - mean).square()) * share
    if normalization.process_group is None:
        return mean, var, count
    return _over_processes(mean, var, count, normalization.process_group)


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
