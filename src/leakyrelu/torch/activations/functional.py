"""Leaky ReLU for tensors: PyTorch's values and gradients, one bit an element kept for the backward pass.

PyTorch's own function keeps its whole input (github.com/pytorch/pytorch/issues/63644). The derivative depends on the
sign alone, so the signs are enough. They are taken in the memory order of the output: a channels-last or transposed
tensor is one flat run to the kernel, and the result has the strides that PyTorch's would have.

Execution paths, with the same values and gradients:

* The autograd functions of this file: native kernels on the CPU, operations of PyTorch on other devices. Dispatch modes
  (fake tensors, counters of memory and operations) see the same kernels as the operators of `custom_ops.py`.
* PyTorch's own function, where there is nothing to save (no gradient is required, or the tensor is so small that an
  autograd function in Python takes longer to call than to run), and where PyTorch's function has to be seen: tensor
  subclasses, `torch.func` transforms, tracing, `torch.compile`, `torch.export`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import is_grad_enabled
from torch.compiler import is_compiling

from leakyrelu.torch._compat import (
    DisableTorchFunction,
    FakeTensor,
    apply_of,
    count_dispatch_modes,
    count_function_modes,
    fast_leaky_relu,
    in_forward_mode,
    is_batched_gradient,
    is_scripting,
    is_tracing,
    is_view,
)
from leakyrelu.torch.activations import custom_ops, kernels
from leakyrelu.torch.activations.eager import PLAIN_TENSORS, has_kernels, needs_standard_functions, observers

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


_Tensor = torch.Tensor  # looking up two names takes a measurable part of the time of a small tensor
# Bytes below which PyTorch's own function is called, which keeps its whole input: an autograd function in Python costs
# some 10 microseconds more, and only where memory is slower than arithmetic do fewer bytes win them back. On two cores
# of an AMD EPYC (family 25, model 17), forward plus backward in memory that is used again, ours took 1.9, 1.5, 1.4,
# 0.95 to 1.5, and 0.97 times PyTorch's time for 2^10, 2^14, 2^16, 2^17 and 2^18 floats, and 1.3, 1.2, 1.1 and 1.0 times
# for 2^16 to 2^19 of bfloat16: python -m benchmarks training layer --small 0 --memory reused --no-compile
_SMALL = 1 << 20


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:  # noqa: A002
    """Leaky ReLU, f(x) = x if x > 0 else negative_slope * x; drop-in for `torch.nn.functional.leaky_relu`.

    The derivative is 1 where x > 0 and `negative_slope` elsewhere, also at exactly 0 and at NaN.

    Values, strides, gradients and errors are those of `torch.nn.functional.leaky_relu`, bit for bit; only the sign of a
    zero in a gradient through an in-place call on a view may be another. Two things differ. The backward pass keeps
    ceil(n / 8) bytes for n elements, not the input; below 1 MiB it keeps the input as PyTorch does, which is quicker
    there. And `inplace=True` has the right gradient for every slope, and keeps the bits at every size; PyTorch refuses
    negative slopes in its backward pass, because it reads the signs off the output.

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
    return leaky_relu_unscripted(input, negative_slope, inplace)


def leaky_relu_unscripted(x: Any, negative_slope: Any, inplace: bool) -> Tensor:
    """Choose the execution path of `leaky_relu`, in code that TorchScript does not compile."""
    if (
        not inplace  # PyTorch reads the signs off the result, where a negative slope has changed them
        and type(x) is _Tensor
        and not is_compiling()  # in a graph the number of elements is no number
        and not is_tracing()
        and x.numel() * x.element_size() < _SMALL
    ):
        if count_function_modes():
            return F.leaky_relu(x, negative_slope)
        return fast_leaky_relu(x, negative_slope)
    keeps_signs = (  # because autograd needs them, and nothing else has to see PyTorch's own function
        (type(x) in PLAIN_TENSORS or type(x) is FakeTensor)
        and x.requires_grad
        and is_grad_enabled()
        and has_kernels(x)
        and not needs_standard_functions()
    )
    if not keeps_signs or (inplace and x.is_leaf):
        if inplace and _signs_would_flip(x, negative_slope):
            return x.copy_(F.leaky_relu(x.clone(), negative_slope))  # type: ignore[no-any-return]
        return F.leaky_relu(x, negative_slope, inplace)
    slope = negative_slope if type(negative_slope) is float else _checked_slope(x, negative_slope)
    record = [observer.observe_leaky_relu(x, slope) for observer in observers()] if count_function_modes() else ()
    if inplace and (is_view(x) or not kernels.is_dense(x)):
        # Which views may be written, and where their gradient goes, PyTorch decides in copy_.
        y: Tensor = x.copy_(_apply_leaky_relu(x, slope, False))
    else:
        y = _apply_leaky_relu(x, slope, inplace)
    for each in record:
        each(y)
    return y


def _signs_would_flip(x: Any, negative_slope: Any) -> bool:
    """Whether a derivative taken by PyTorch itself would have to read signs that an in-place result has lost."""
    return (
        isinstance(x, torch.Tensor)
        and isinstance(negative_slope, (float, int))
        and negative_slope < 0
        and ((x.requires_grad and is_grad_enabled()) or needs_standard_functions() or in_forward_mode())
    )


def _checked_slope(x: Tensor, negative_slope: Any) -> float:
    # PyTorch decides what a number is (a NumPy scalar, a tensor of no dimension), and raises its own errors.
    with DisableTorchFunction():  # modes need not see it
        F.leaky_relu(x.detach().new_empty(0), negative_slope)
    return float(negative_slope)


def _kernels(x: Tensor) -> Any:
    """Return the kernels, or the operators around them where a dispatch mode or a fake tensor has to see one."""
    return custom_ops if count_dispatch_modes() or type(x) is FakeTensor else kernels


class _LeakyReLU(torch.autograd.Function):
    """(x, slope, inplace) -> y; keeps the signs and the layout they were taken in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, inplace: bool) -> Tensor:
        if inplace:
            y, signs = x, _kernels(x).with_signs_(x, slope)
            ctx.mark_dirty(x)
        else:
            y, signs = _kernels(x).with_signs(x, slope)
        ctx.save_for_backward(signs)
        if in_forward_mode():
            ctx.save_for_forward(signs)
        ctx.set_materialize_grads(False)
        ctx.rule = (slope, y.stride())
        ctx.inplace = inplace
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None]:
        return _scale(grad, *ctx.saved_tensors, *ctx.rule), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: None) -> Tensor | None:
        scaled: Any = _scale(tangent, *ctx.saved_tensors, *ctx.rule)
        # An in-place function has to answer with the tangent it was given, changed in place.
        return tangent.copy_(scaled) if ctx.inplace and tangent is not None else scaled


class _Scale(torch.autograd.Function):
    """(grad, signs, slope, strides) -> grad where the bit is 1, slope * grad elsewhere; linear in grad."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, signs: Tensor, slope: float, strides: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(signs)
        ctx.save_for_forward(signs)
        ctx.set_materialize_grads(False)
        ctx.rule = (slope, strides)
        return _kernels(grad).from_signs(grad, signs, slope, strides)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        return _scale(grad, *ctx.saved_tensors, *ctx.rule), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, *_: None) -> Tensor | None:
        return _scale(tangent, *ctx.saved_tensors, *ctx.rule)


_apply_leaky_relu: Callable[[Tensor, float, bool], Tensor] = apply_of(_LeakyReLU)
_apply_scale: Callable[[Tensor, Tensor, float, tuple[int, ...]], Tensor] = apply_of(_Scale)


def _scale(grad: Tensor | None, signs: Tensor, slope: float, strides: tuple[int, ...]) -> Tensor | None:
    """Apply the derivative to a gradient or a tangent, itself differentiable; None stands for zeros."""
    if grad is None:
        return None
    if type(grad) not in PLAIN_TENSORS or is_batched_gradient(grad) or needs_standard_functions():
        return kernels.from_signs_plain(grad, signs, slope, strides)
    if is_grad_enabled() or in_forward_mode():
        return _apply_scale(grad, signs, slope, strides)
    scaled: Tensor = (custom_ops if count_dispatch_modes() else kernels).from_signs(grad, signs, slope, strides)
    return scaled
