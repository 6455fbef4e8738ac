"""Leaky ReLU for tensors: PyTorch's values and gradients, one bit an element kept for the backward pass.

PyTorch's own function keeps its whole input (github.com/pytorch/pytorch/issues/63644). The derivative depends on the
sign alone, so the signs are enough. They are taken in the memory order of the output: a channels-last or transposed
tensor is one flat run to the kernel, and the result has the strides that PyTorch's would have.

Three roads, one result:

* float32 and float64 on the CPU: the native kernels, on NumPy views of the tensors' memory.
* float16 and bfloat16, and other devices: PyTorch operations that pack the bits; the host never waits for the device.
* PyTorch's own function, where nothing is kept (no gradient is asked for) or where another layer of PyTorch has to see
  it: tensor subclasses, fake and meta tensors, `torch.func` transforms, dispatch modes, tracing, `torch.compile`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch._C import _get_function_stack_at, _len_torch_function_stack
from torch._jit_internal import is_scripting
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

from leakyrelu import _core
from leakyrelu.torch.bits import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_NATIVE = (torch.float32, torch.float64)
_DTYPES = (*_NATIVE, torch.float16, torch.bfloat16)
# NumPy's arithmetic warns of overflow and invalid values; PyTorch's is silent, and here it is the host.
_QUIET = partial(np.errstate, all="ignore")


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:  # noqa: A002
    """Leaky ReLU, f(x) = x if x > 0 else negative_slope * x; drop-in for `torch.nn.functional.leaky_relu`.

    The derivative is 1 where x > 0 and `negative_slope` elsewhere, also at exactly 0 and at NaN.

    Values, strides, gradients and errors are those of `torch.nn.functional.leaky_relu`, bit for bit. Two things differ.
    The backward pass keeps ceil(n / 8) bytes for n elements instead of the input. And `inplace=True` has the right
    gradient for every slope; PyTorch refuses negative ones in its backward pass, because it reads the signs off the
    output.

    First derivatives, derivatives of any higher order, and forward-mode derivatives exist. Under `torch.func`
    transforms, `torch.compile`, tracing, and for tensor subclasses the call becomes PyTorch's own: the same values
    and gradients, and PyTorch's memory.

    Parameters
    ----------
    input
        Tensor of any shape, strides and device; float16, bfloat16, float32 or float64. Whatever else PyTorch's own
        function takes (quantized, meta, fake tensors) is handed to it.
    negative_slope
        Any number: 0, negative, above 1, infinite or NaN included.
    inplace
        Write the result over `input`. A view, or a tensor with gaps in its memory, is computed beside and copied.

    Returns
    -------
    Tensor
        Same shape, dtype and strides as PyTorch gives; `input` itself for `inplace=True`.

    Raises
    ------
    NotImplementedError, TypeError, RuntimeError
        Exactly where PyTorch raises them, with its text: an integer tensor, no tensor, a slope that is no number, in
        place on a leaf that requires a gradient.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch import leaky_relu
    >>> x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    >>> y = leaky_relu(x, 0.25)
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([-0.5, 0.0, 3.0], [0.25, 0.25, 1.0])
    """
    if is_scripting():
        return F.leaky_relu(input, negative_slope, inplace)
    return _choose_road(input, negative_slope, inplace)


def _choose_road(x: Any, negative_slope: Any, inplace: bool) -> Tensor:
    if not _keeps_signs(x) or (inplace and x.is_leaf):
        if inplace and _signs_would_flip(x, negative_slope):
            return x.copy_(F.leaky_relu(x.clone(), negative_slope))  # type: ignore[no-any-return]
        return F.leaky_relu(x, negative_slope, inplace)
    slope = _slope(x, negative_slope)
    if inplace and x._is_view():
        # Which views may be written, and where their gradient goes, PyTorch knows: copy_ asks it.
        return x.copy_(_LeakyReLU.apply(x, slope, False))  # type: ignore[no-any-return, no-untyped-call]
    return _LeakyReLU.apply(x, slope, inplace)  # type: ignore[no-any-return, no-untyped-call]


def _keeps_signs(x: Any) -> bool:
    """Whether autograd will need signs, and nobody but autograd has to see the call."""
    return (
        _is_eager()
        and type(x) in _PLAIN
        and x.requires_grad
        and torch.is_grad_enabled()
        and x.dtype in _DTYPES
        and x.layout is torch.strided
        and not (x.is_meta or x.is_nested)
    )


def _signs_would_flip(x: Any, negative_slope: Any) -> bool:
    """Whether a derivative taken by PyTorch itself would have to read signs that an in-place result has lost."""
    if not (isinstance(x, torch.Tensor) and isinstance(negative_slope, float | int) and negative_slope < 0):
        return False
    return (
        torch.compiler.is_compiling()
        or (x.requires_grad and torch.is_grad_enabled())
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _is_eager() -> bool:
    """Whether no transform, mode or tracer stands between this call and the memory of the tensors."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state()
        or any(type(_get_function_stack_at(k)) is not DeviceContext for k in range(_len_torch_function_stack()))
    )


def _slope(x: Tensor, negative_slope: Any) -> float:
    if type(negative_slope) is not float:
        # PyTorch says what a number is (a NumPy scalar, a tensor of no dimension), and refuses the rest in its words.
        F.leaky_relu(x.detach().new_empty(0), negative_slope)
    return float(negative_slope)


class _LeakyReLU(torch.autograd.Function):
    """(x, slope, inplace) -> y; keeps the signs and the layout they were taken in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, inplace: bool) -> Tensor:
        y, signs, strides = _with_signs(x, slope, inplace)
        ctx.save_for_backward(signs)
        ctx.save_for_forward(signs)
        ctx.set_materialize_grads(False)
        ctx.rule = (slope, y.shape, strides)
        ctx.inplace = inplace
        if inplace:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None]:
        if grad is None:
            return None, None, None
        return _scale(grad, *ctx.saved_tensors, *ctx.rule), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: None) -> Tensor | None:
        if tangent is None:
            return None
        scaled = _scale(tangent, *ctx.saved_tensors, *ctx.rule)
        # An in-place function has to answer with the tangent it was given, changed in place.
        return tangent.copy_(scaled) if ctx.inplace else scaled


class _Scale(torch.autograd.Function):
    """(grad, signs, slope, shape, strides) -> grad where the bit is 1, slope * grad elsewhere; linear in grad."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(signs)
        ctx.save_for_forward(signs)
        ctx.set_materialize_grads(False)
        ctx.rule = (slope, shape, strides)
        return _from_signs(grad, signs, slope, shape, strides)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None, None]:
        scaled = None if grad is None else _scale(grad, *ctx.saved_tensors, *ctx.rule)
        return scaled, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: None) -> Tensor | None:
        return None if tangent is None else _scale(tangent, *ctx.saved_tensors, *ctx.rule)


def _scale(grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    """Apply the derivative to a gradient or a tangent, itself differentiable."""
    if type(grad) not in _PLAIN or torch._C._functorch.is_legacy_batchedtensor(grad) or not _is_eager():
        # Batched gradients (`is_grads_batched`), compiled autograd, modes: operations that PyTorch can see into.
        return _from_signs_plain(grad, signs, slope, shape, strides)
    if torch.is_grad_enabled() or forward_ad._current_level >= 0:
        return _Scale.apply(grad, signs, slope, shape, strides)  # type: ignore[no-any-return, no-untyped-call]
    return _from_signs(grad, signs, slope, shape, strides)


def _with_signs(x: Tensor, slope: float, inplace: bool) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Return the output, the signs, and the strides of the dense layout in which the signs were taken."""
    if not x.is_cpu or x.dtype not in _NATIVE or x.is_neg():
        mask = x > 0
        return F.leaky_relu(x, slope, inplace), pack(mask), mask.stride()

    if x.is_contiguous():
        y = x if inplace else torch.empty_like(x, memory_format=torch.contiguous_format)
        return y, _take_signs(x, slope, y), y.stride()

    # Otherwise PyTorch gives its result the strides of `x`, where `x` fills its memory without gaps or overlap, and
    # strides as near to them as a dense tensor can have, where it does not. A fresh tensor answers which it is.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.preserve_format
    y = torch.empty_like(x, memory_format=layout)
    strides = y.stride()
    if channels_last or strides == x.stride():
        y = x if inplace else y
        return y, _take_signs(x, slope, y), strides
    signs = _take_signs(y.copy_(x), slope, y)
    return (x.copy_(y) if inplace else y), signs, strides


def _take_signs(x: Tensor, slope: float, out: Tensor) -> Tensor:
    with _QUIET():
        _, signs = _core.leaky_relu_with_signs(_memory(x), slope, _memory(out))
    return torch.from_numpy(signs)


def _from_signs(grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    if not grad.is_cpu or grad.dtype not in _NATIVE or grad.is_neg() or not signs.is_cpu:
        return _from_signs_plain(grad, signs, slope, shape, strides)
    result = torch.empty_strided(shape, strides, dtype=grad.dtype, device="cpu")
    if grad.stride() != strides:
        grad = result.copy_(grad)
    with _QUIET():
        _core.leaky_relu_backward_from_signs(_memory(grad), signs.numpy(), slope, _memory(result))
    return result


def _from_signs_plain(grad: Tensor, signs: Tensor, slope: float, shape: torch.Size, strides: tuple[int, ...]) -> Tensor:
    # The sign is all that PyTorch's own derivative reads of its input, so any positive number and 0 will do.
    stand_in = unpack(signs, shape, strides, grad.dtype)
    return torch.ops.aten.leaky_relu_backward(grad, stand_in, slope, False)  # type: ignore[no-any-return]


def _memory(x: Tensor) -> Any:
    """Return the memory of a dense tensor as a NumPy array in C order."""
    x = x.detach()
    return x.numpy() if x.is_contiguous() else x.as_strided((x.numel(),), (1,)).numpy()
