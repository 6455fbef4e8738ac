"""Leaky ReLU with a learned slope: PyTorch's values and gradients, from less than PyTorch keeps.

    y = x if x > 0 else w * x        grad_x = grad if x > 0 else w * grad        grad_w = sum of grad * x over x <= 0

PyTorch keeps x. Where w > 0, y has the sign of x, and x = y / w below 0: the output is enough, and the next layer
keeps it anyway. Where some w < 0, the packed signs of x are kept beside it. Where some w is 0, or so small or large
that x cannot be told from w * x, x is kept as PyTorch keeps it. Slopes that require no gradient need the signs alone.

Second derivatives have to reach x, which is not there. The function therefore has a second output, a zero of the shape
of x and one element of memory, whose derivative with respect to x is defined as 1: the backward pass differentiates
through y / w + zero with y and w held constant. That is the derivative of x itself, without the cancellation that
differentiating the quotient would bring at small w.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from leakyrelu import _core
from leakyrelu.torch._compat import apply_of, in_forward_mode, is_batched_gradient, is_scripting
from leakyrelu.torch.activations.eager import PLAIN_TENSORS, has_kernels, is_eager, observers
from leakyrelu.torch.activations.invertible import numbers
from leakyrelu.torch.activations.kernels import NATIVE_DTYPES, aligned, native_layout, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


__all__ = ["prelu"]


# Elements below which PyTorch's own function is called, which keeps its input: an autograd function in Python costs 100
# to 400 microseconds more a step there. On two busy cores of an AMD EPYC (family 25, model 17), one thread, ours took
# 0.1 to 0.9 times PyTorch's time at 2^16, and 0.9 to 6.5 times at 2^14: python -m benchmarks prelu --small 0
_SMALL = 1 << 16
# Elements of a run with one slope from which our own forward kernel is called, since each run is a call of its own;
# shorter runs are PyTorch's. Chosen, not tuned.
_RUN = 64

_Layout = tuple[int, int, int, bool]


def prelu(input: Tensor, weight: Tensor) -> Tensor:  # noqa: A002
    """Leaky ReLU with learned slopes, f(x) = x if x > 0 else weight * x; drop-in for `torch.nn.functional.prelu`.

    The derivative is 1 where x > 0 and `weight` elsewhere, also at exactly 0 and at NaN; that of a slope is the sum of
    grad * x over x <= 0 and NaN.

    Values, errors, and the gradient of the input are PyTorch's, bit for bit. The gradient of the slope is summed in
    one pass with that of the input, and differs by rounding. What is kept for the backward pass, for n elements:

    * every slope positive: the output, which the layer that comes next keeps anyway, and nothing else;
    * some slope negative: the output, and ceil(n / 8) bytes of signs;
    * some slope zero, infinite, NaN, or of a magnitude below sqrt(tiny) or above max * eps of the dtype, and in float16
      any of a magnitude below 1, with which outputs fall among the subnormals: the input, as PyTorch does;
    * a slope that requires no gradient: ceil(n / 8) bytes of signs;
    * fewer than 2^16 elements: the input, through PyTorch's own function, which is quicker there.

    The slopes of each call decide. On the CPU that costs nothing; on a device the host waits for them once a call.

    Below zero the input is recovered as output / weight. The output was rounded once, so each term of the slope's
    gradient is off by at most about 1.5 units in the last place of the dtype (where |input| < sqrt(tiny) of bfloat16,
    float32 or float64, by up to sqrt(tiny)).

    Derivatives of every order exist. Under forward-mode derivatives, `torch.func` transforms, `torch.compile`, tracing,
    dispatch modes, while `watch` counts, and for tensor subclasses the call becomes PyTorch's own, with its memory.

    Parameters
    ----------
    input
        Tensor of any shape, strides and device; float16, bfloat16, float32 or float64.
    weight
        One slope, or one for each channel (axis 1 of `input`), of the dtype of `input`; autocast casts both, as it does
        for PyTorch's function.

    Returns
    -------
    Tensor
        Same shape and dtype as `input`. It must not be changed in place before the backward pass, which then raises
        PyTorch's error.

    Raises
    ------
    RuntimeError, TypeError
        Exactly where PyTorch raises them, with its text.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch import prelu
    >>> x = torch.tensor([[-2.0, 3.0], [-4.0, -1.0]], requires_grad=True)
    >>> slopes = torch.tensor([0.5, 0.25], requires_grad=True)
    >>> prelu(x, slopes).sum().backward()
    >>> x.grad.tolist(), slopes.grad.tolist()
    ([[0.5, 1.0], [0.5, 0.25]], [-6.0, -1.0])
    """
    if is_scripting():
        return F.prelu(input, weight)
    return _prelu_unscripted(input, weight)


def _prelu_unscripted(x: Any, w: Any) -> Tensor:
    if type(x) not in PLAIN_TENSORS or type(w) not in PLAIN_TENSORS or not is_eager() or x.numel() < _SMALL:
        return F.prelu(x, w)
    if torch.is_autocast_enabled(x.device.type) and x.device == w.device:
        x, w = _autocast(x, w)
    if not _keeps_less(x, w):
        return F.prelu(x, w)
    y, _ = _apply_prelu(x, w)
    return y


def _autocast(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Cast as PyTorch does for its function, which two empty tensors ask."""
    try:
        dtype = F.prelu(x.new_empty(0), w.new_empty(1)).dtype
    except RuntimeError:
        return x, w  # the dtypes still differ, for which PyTorch raises its error
    return x.to(dtype), w.to(dtype)


def _keeps_less(x: Tensor, w: Tensor) -> bool:
    """Whether there is anything to save; all else, errors included, is left to PyTorch."""
    return (
        (x.requires_grad or w.requires_grad)
        and torch.is_grad_enabled()
        and has_kernels(x)
        and has_kernels(w)
        and w.dtype == x.dtype
        and w.device == x.device
        and not (x.is_neg() or w.is_neg())
        and x.numel() > 0
        and w.dim() <= 1
        and (w.numel() == 1 or (x.dim() > 1 and w.numel() == x.shape[1]))
        and not observers()
        and not in_forward_mode()
    )


class _PReLU(torch.autograd.Function):
    """(x, w) -> (y, zero): see the top of this file."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        slopes = numbers(w)
        layout = _layout(x, w)
        output, signs = _what_to_keep(slopes, x.dtype) if ctx.needs_input_grad[1] else (False, True)
        y, bits, ctx.strides = _forward(x, w, slopes, layout, signs)
        zero = x.new_zeros(()).expand(x.shape) if output else None
        given = y if output else None if signs else x
        ctx.save_for_backward(w, given, bits, zero)
        ctx.set_materialize_grads(False)
        ctx.layout = layout
        return y, zero

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_zero: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if grad is None:
            return grad_zero, None
        w, given, bits, zero = ctx.saved_tensors
        wants_x, wants_w = ctx.needs_input_grad
        grad_x: Tensor | None = None
        grad_w: Tensor | None = None
        if _is_native(grad, w, given, bits, ctx):
            grad_x, grad_w = _backward(grad, w, given, bits, zero is not None, ctx, wants_x)
        else:
            # Not PyTorch's own operator, whose second derivative takes x = 0 for positive.
            wide = _over(w, grad)
            above, x = _input(grad, wide, given, bits, zero, ctx.strides)
            grad_x = torch.where(above, grad, grad * wide) if wants_x else None
            if wants_w:
                grad_w = torch.where(above, 0.0, grad * x).sum_to_size(wide.shape).reshape(w.shape)
        if grad_x is not None and grad_zero is not None:
            grad_x = grad_x + grad_zero
        return grad_x, grad_w if wants_w else None


_apply_prelu: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]] = apply_of(_PReLU)


def _recoverable(dtype: torch.dtype) -> tuple[float, float]:
    """Return the least and the most |w| with which the input is recovered.

    An output below `tiny`, among the subnormals, has few digits left. With sqrt(tiny) for the least |w| that needs an
    input below sqrt(tiny) as well, 1e-19 in float32. In float16 sqrt(tiny) is 0.008, and such inputs are usual: there
    the output must not be smaller than the input.
    """
    info = torch.finfo(dtype)
    return 1.0 if dtype is torch.float16 else math.sqrt(info.tiny), info.max * info.eps


def _what_to_keep(slopes: Any, dtype: torch.dtype) -> tuple[bool, bool]:
    """Return whether the input can be recovered from the output, and whether the signs have to be kept with it."""
    smallest, largest = _recoverable(dtype)
    size = abs(slopes)
    good, positive = ((size >= smallest) & (size <= largest)).all(), (slopes > 0).all()
    if isinstance(good, torch.Tensor):
        good, positive = torch.stack((good, positive)).tolist()  # the host waits once
    return bool(good), bool(good and not positive)


def _layout(x: Tensor, w: Tensor) -> _Layout | None:
    """Return samples, channels, positions and whether the channels lie last; None where no native kernel fits."""
    if not x.is_cpu or x.dtype not in NATIVE_DTYPES:
        return None
    last = not x.is_contiguous()
    if last and not (
        x.is_contiguous(memory_format=torch.channels_last) or x.is_contiguous(memory_format=torch.channels_last_3d)
    ):
        return None
    if w.numel() == 1:
        return 1, 1, x.numel(), False
    samples, channels = x.shape[:2]
    positions = x.shape[2:].numel()
    if last or positions == 1:
        return 1, channels, samples * positions, True
    return samples, channels, positions, False


def _forward(
    x: Tensor, w: Tensor, slopes: Any, layout: _Layout | None, signs: bool
) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """Return the output, the signs if they are wanted, and the strides of both."""
    if layout is None or (layout[1] > 1 and (layout[3] or layout[2] < _RUN)):
        y = F.prelu(x, w)
        if not signs:
            return y, None, y.stride()
        mask = x > 0
        return y, pack(mask), mask.stride()
    x = aligned(x)
    y = torch.empty_like(x)
    bits = x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8) if signs else None
    to = 0 if bits is None else bits.data_ptr()
    _core.prelu_forward_at(native_layout(x, *layout), slopes, x.data_ptr(), y.data_ptr(), to)
    return y, bits, y.stride()


def _is_native(grad: Tensor, w: Tensor, given: Tensor | None, bits: Tensor | None, ctx: Any) -> bool:
    """Whether the backward pass can run on the memory of what was saved, which hooks may have put elsewhere."""
    return (
        ctx.layout is not None
        and not torch.is_grad_enabled()
        and not in_forward_mode()
        and all(t is None or (t.is_cpu and type(t) in PLAIN_TENSORS) for t in (grad, w, given, bits))
        and (given is None or given.stride() == ctx.strides)
        and not (is_batched_gradient(grad) or grad.is_neg())
        and is_eager()
    )


def _backward(
    grad: Tensor, w: Tensor, given: Tensor | None, bits: Tensor | None, inverted: bool, ctx: Any, wants_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Both gradients in one pass of the native core."""
    if grad.stride() != ctx.strides:
        grad = torch.empty_strided(grad.shape, ctx.strides, dtype=grad.dtype).copy_(grad)
    grad = aligned(grad)
    # Where the signs alone are kept, nothing uses the sums.
    given = grad if given is None else aligned(given)
    out = torch.empty_strided(grad.shape, ctx.strides, dtype=grad.dtype) if wants_x else None
    slopes = numbers(w).reshape(-1)
    tables = np.stack((slopes, 1 / slopes if inverted else np.ones_like(slopes)))
    sums = _core.prelu_backward_at(
        native_layout(grad, *ctx.layout),
        tables,
        grad.data_ptr(),
        given.data_ptr(),
        0 if bits is None else bits.data_ptr(),
        0 if out is None else out.data_ptr(),
    )
    return out, torch.from_numpy(sums).to(w.dtype).reshape(w.shape)


def _over(w: Tensor, x: Tensor) -> Tensor:
    """Give the slopes the shape in which they broadcast over the data."""
    return w.reshape((1, -1, *(1,) * (x.dim() - 2)) if x.dim() > 1 else (1,) * x.dim())


def _input(
    grad: Tensor, w: Tensor, given: Tensor | None, bits: Tensor | None, zero: Tensor | None, strides: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return where x > 0, and what has the values of x elsewhere and the derivatives of x."""
    signed = given if bits is None else unpack(bits, grad.shape, strides, grad.dtype)
    assert signed is not None
    above = signed > 0
    if given is None:
        return above, grad  # a stand-in: only the signs were kept, and nothing uses these values
    if zero is None:
        return above, given
    x = given.detach() / w.detach()
    return above, x + zero if torch.is_grad_enabled() or in_forward_mode() else x
