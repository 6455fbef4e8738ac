"""A normalization that waits for what its output goes into, and computes both at once where that is a Leaky ReLU.

So it is joined at each place where a Leaky ReLU takes its output, whether a module that is used in other places, too,
or a function. Anything else gets the output of the normalization, as if it had been there from the beginning.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leakyrelu._checks import is_number
from leakyrelu.torch._compat import DisableTorchFunctionSubclass, version_of, wrapper_tensor
from leakyrelu.torch.normalization.fused import FusedNorm
from leakyrelu.torch.normalization.kinds import INSTANCE_NORMS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DeferredNorm", "PendingOutput"]

# Functions that hand their input on, or its numbers in another shape: a Leaky ReLU may as well come before them.
_VIEWS = {
    *(torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose, torch.swapaxes),
    *(torch.movedim, Tensor.flatten, Tensor.unflatten, Tensor.reshape, Tensor.view, Tensor.squeeze, Tensor.unsqueeze),
    *(Tensor.permute, Tensor.transpose, Tensor.swapaxes, Tensor.movedim, Tensor.contiguous, torch.unflatten),
}
_DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
# What can be said of the output before it is computed.
_DESCRIPTIONS: set[Any] = {
    *(
        Tensor.size,
        Tensor.dim,
        Tensor.ndimension,
        Tensor.numel,
        Tensor.nelement,
        Tensor.element_size,
        Tensor.get_device,
    ),
    *(Tensor.is_floating_point, Tensor.is_complex, torch.is_floating_point, torch.is_complex, torch.numel),
    *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda", "is_cpu")),
    *(getattr(Tensor, name).__get__ for name in ("is_meta", "is_sparse", "is_quantized", "itemsize", "nbytes")),
}
LEAKY_FUNCTIONS = frozenset((F.leaky_relu, F.leaky_relu_, torch.ops.aten.leaky_relu, torch.ops.aten.leaky_relu_))


class DeferredNorm(FusedNorm):
    """A normalization whose output is computed together with the Leaky ReLU that takes it, wherever that is called.

    Attributes
    ----------
    runs
        Where it is a list, each call is noted in it, with the functions that take its output.
    """

    runs: list[Run] | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the normalized input, computed when something takes it."""
        if self.can_fuse(input):
            run = Run(self, input)
            if self.runs is not None:
                self.runs.append(run)
            return PendingOutput(run, input)
        return self.normalized(input)

    def once_more(self, x: Tensor) -> Tensor:
        """Return the output of the normalization alone for an input it has had: running statistics stay as they are."""
        norm: Any = self._norm
        mean, _ = self._statistics()
        if not self._estimates(mean) or self._kind.base is nn.GroupNorm:
            return self.normalized(x)
        if self._process_group(norm) is not None:
            raise RuntimeError(
                "the output of a SyncBatchNorm that save_memory joined with a Leaky ReLU is used once more; call "
                "restore(model), or save_memory with an example that does so"
            )
        function: Any = F.instance_norm if self._kind.base in INSTANCE_NORMS else F.batch_norm
        return function(x, None, None, self.weight, self.bias, True, 0.0, norm.eps)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Return the layer that this one replaces."""
        return f"{self._norm}, with the Leaky ReLU behind it"


class Run:
    """One call of a normalization: its input, and what was made of it so far.

    Attributes
    ----------
    takers
        The functions that took its output, what they were given or gave out, and the version of that.
    """

    def __init__(self, layer: DeferredNorm, x: Tensor) -> None:
        self.layer = layer
        self.input = x
        self.is_activated = False
        self.takers: list[tuple[Any, Tensor, int]] = []
        self._plain: Tensor | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing took the output so far."""
        return self._plain is None and not self.is_activated

    def plain(self) -> Tensor:
        """Return the output of the normalization alone."""
        if self._plain is None:
            normalized = self.layer.once_more if self.is_activated else self.layer.normalized
            self._plain = normalized(self.input)
        return self._plain

    def activated(self, slope: float) -> Tensor:
        """Return the output with a Leaky ReLU."""
        if not self.is_open:
            return F.leaky_relu(self.plain(), slope)
        self.is_activated = True
        return self.layer.fused(self.input, slope)


class PendingOutput(Tensor):
    """The output of a normalization that is computed when something takes it."""

    run: Run
    _views: tuple[Callable[[Tensor], Tensor], ...]

    @staticmethod
    def __new__(cls, run: Run, like: Tensor, views: tuple[Any, ...] = ()) -> PendingOutput:
        """Return a tensor with the shape and dtype of another that holds no numbers yet."""
        return wrapper_tensor(cls, like.shape, dtype=run.input.dtype, device=run.input.device)  # type: ignore[no-any-return]

    def __init__(self, run: Run, like: Tensor, views: tuple[Any, ...] = ()) -> None:
        self.run = run
        self._views = views

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute the output for the function that takes it, with the activation if it is a Leaky ReLU."""
        kwargs = kwargs or {}
        if func in _DESCRIPTIONS:
            with DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        first = args[0] if args else kwargs.get("input")
        rest = {key: value for key, value in kwargs.items() if key != "input"}
        if isinstance(first, PendingOutput):
            if func in LEAKY_FUNCTIONS and (slope := _slope(*args[1:], **rest)) is not None:
                return first._noted(func, first._viewed(first.run.activated(slope)))
            if func in _DROPOUTS and _changes_nothing(*args[1:], **rest):
                return first
            if func in _VIEWS and first.run.is_open:
                return first._moved(lambda x: func(x, *args[1:], **rest))
        return func(*_computed(args, func), **_computed(kwargs, func))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse an operator: a gradient could not pass it."""
        raise RuntimeError(
            f"{func} was called on the output of a normalization that save_memory joined with a Leaky ReLU, past "
            "PyTorch's functions; call restore(model) and join it again with an example, save_memory(model, example)"
        )

    @property
    def layer(self) -> DeferredNorm:
        """The normalization that made it."""
        return self.run.layer

    def computed(self, func: Any) -> Tensor:
        """Return the output of the normalization alone, which a function takes."""
        return self._noted(func, self._viewed(self.run.plain()))

    def _moved(self, view: Callable[[Tensor], Tensor]) -> PendingOutput:
        like = view(torch.empty(self.shape, device="meta"))
        return PendingOutput(self.run, like, (*self._views, view))

    def _viewed(self, y: Tensor) -> Tensor:
        for view in self._views:
            y = view(y)
        return y

    def _noted(self, func: Any, y: Tensor) -> Tensor:
        if self.run.layer.runs is not None:
            self.run.takers.append((func, y, version_of(y)))
        return y

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle the output."""
        return self.computed(copy.copy).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]


def _slope(negative_slope: Any = 0.01, inplace: bool = False, **_: Any) -> float | None:
    """Return the slope of a Leaky ReLU if it can be inverted."""
    usable = is_number(negative_slope) and negative_slope > 0 and math.isfinite(negative_slope)
    return float(negative_slope) if usable else None


def _changes_nothing(p: float = 0.5, training: bool = True, inplace: bool = False, **_: Any) -> bool:
    return not training or p == 0


def _computed(value: Any, func: Any) -> Any:
    """Put outputs in place of those that are pending, at any depth."""
    if isinstance(value, PendingOutput):
        return value.computed(func)
    if isinstance(value, dict):
        return {key: _computed(each, func) for key, each in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_computed(each, func) for each in value)
    return value
