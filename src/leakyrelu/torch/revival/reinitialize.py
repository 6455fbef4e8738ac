"""Reinitialization of the units of one layer: fresh rows, zero columns, and reset state of the optimizer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Entries = tuple[Tensor, Any]  # entries of a tensor that were set, by their index


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Consumer(NamedTuple):
    """Layer that takes the units: of its inputs, `each` in a row are one unit."""

    module: Any
    each: int
    constants: Tensor | None  # outputs of the units, where they are not 0


@dataclass
class Plan:
    """Units of one layer, and the modules that hold their parameters and statistics."""

    name: str
    units: tuple[int, ...]
    producer: nn.Module
    norms: list[nn.Module]
    consumers: list[Consumer]

    def fold(self) -> None:
        """Add the constant outputs of the units to the biases of the consumers."""
        for module, each, constants in self.consumers:
            if constants is None:
                continue
            weight, bias = module.weight, module.bias
            if isinstance(module, nn.Linear):
                bias += weight[:, _columns(self.units, each)] @ constants.repeat_interleave(each).to(weight)
            else:
                whole = weight.flatten(2).sum(2)
                for unit, constant in zip(self.units, constants.tolist(), strict=True):
                    rows, column = _kernels(module, unit)
                    bias[rows] += whole[rows, column] * constant

    def renew(self, initializer: Callable[[nn.Module], object] | None, changed: list[Entries]) -> None:
        """Draw the rows of the producer again, and reset the norms between it and the consumers."""
        fresh: Any = copy.deepcopy(self.producer)
        if initializer:
            initializer(fresh)
        else:
            fresh.reset_parameters()
        rows = list(self.units)
        for name in ("weight", "bias"):
            parameter = getattr(self.producer, name, None)
            if parameter is None:
                continue
            places: list[Any] = [rows]
            if name == "weight" and isinstance(self.producer, TRANSPOSED):
                places = [_kernels(self.producer, unit) for unit in rows]
            for where in places:
                parameter[where] = getattr(fresh, name)[where]
                changed.append((parameter, where))
        for norm in self.norms:
            for name, value in (("running_mean", 0.0), ("running_var", 1.0), ("weight", 1.0), ("bias", 0.0)):
                tensor = getattr(norm, name, None)
                if tensor is not None:
                    tensor[rows] = value
                    changed.append((tensor, rows))

    def cut(self, changed: list[Entries]) -> None:
        """Make every weight of the consumers that takes these units zero."""
        for module, each, _ in self.consumers:
            if isinstance(module, nn.Linear):
                places: list[Any] = [(slice(None), _columns(self.units, each))]
            else:
                places = [unit if isinstance(module, TRANSPOSED) else _kernels(module, unit) for unit in self.units]
            for where in places:
                module.weight[where] = 0.0
                changed.append((module.weight, where))


def reset_state(optimizer: torch.optim.Optimizer, changed: Iterable[Entries]) -> Iterator[str]:
    """Reset the state of an optimizer at these entries; yield what was reset, in words."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    names: set[str] = set()
    steps = False
    for parameter, where in changed:
        for name, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, Tensor):
                continue
            if value.shape == parameter.shape and value.ndim:
                # Adagrad's sum starts at an argument of it, everything else at 0.
                group = groups.get(id(parameter), {})
                value[where] = float(group.get("initial_accumulator_value", 0.0)) if name == "sum" else 0.0
                names.add(name)
            elif name == "step":
                steps = True
    if names:
        yield f"optimizer ({type(optimizer).__name__}): {', '.join(sorted(names))} of these entries reset"
    if steps and "exp_avg_sq" in names:
        yield "  step is one number a parameter and stays: their first updates can exceed the learning rate"


def _columns(units: Sequence[int], each: int) -> list[int]:
    return [unit * each + i for unit in units for i in range(each)]


def _kernels(module: Any, unit: int) -> tuple[slice, int]:
    """Return where a convolution's weight takes this input channel, or a transposed one's makes this output channel."""
    group, column = divmod(unit, module.weight.shape[1])
    size = module.weight.shape[0] // module.groups
    return slice(group * size, (group + 1) * size), column
