"""How the modules of a framework are read: PyTorch's own, or those of one that runs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from leakyrelu.torch._compat import has_forward_hooks
from leakyrelu.torch.diagnosis.rectifiers import RECTIFIERS, rectifier_of
from leakyrelu.torch.diagnosis.unit_axes import PLAIN_MODULES, PRODUCER_MODULES, RECURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from leakyrelu.torch.diagnosis.rectifiers import Rectifier


class Framework(NamedTuple):
    """What reads the modules of a framework."""

    named_modules: Callable[[nn.Module], Iterable[tuple[str, nn.Module]]]
    is_rectifier: Callable[[nn.Module], bool]
    output_axis: Callable[[nn.Module], int | None]  # where its output holds units, of layers that are not looked into
    rectifier_of: Callable[[nn.Module], Rectifier | None]


def _output_axis(module: nn.Module) -> int | None:
    """Return the axis of the units in the output of a layer; of a subclass only where all of them keep to it.

    Within a subclass of another layer the functions that it calls show where the units are: a channels-first layer
    norm may be a subclass of `nn.LayerNorm`.
    """
    if isinstance(module, RECURRENT):
        return -1
    return next((axis for kinds, axis in PRODUCER_MODULES if type(module) in kinds), None)


PYTORCH = Framework(nn.Module.named_modules, lambda module: isinstance(module, RECTIFIERS), _output_axis, rectifier_of)


def is_plain(module: nn.Module) -> bool:
    """Whether this is a layer of PyTorch, unchanged, that calls no rectifier."""
    return type(module) in PLAIN_MODULES and _is_unchanged(module)


def is_plain_rectifier(module: nn.Module) -> bool:
    """Whether this is a rectifier of PyTorch or of this package, unchanged."""
    own = type(module).__module__.startswith("leakyrelu.torch.")
    return isinstance(module, RECTIFIERS) and (own or type(module) in RECTIFIERS) and _is_unchanged(module)


def _is_unchanged(module: nn.Module) -> bool:
    return "forward" not in module.__dict__ and not has_forward_hooks(module)
