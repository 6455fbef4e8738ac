"""Reinitialization of the units of one layer: fresh rows, zero columns, and reset state of the optimizer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


__all__ = ["TRANSPOSED", "Changed", "Consumer", "Plan"]


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Consumer(NamedTuple):
    """Layer that takes the units: of its inputs, `each` in a row are one unit."""

    module: nn.Module
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
            weight, bias = _parameter(module, "weight"), _parameter(module, "bias")
            if isinstance(module, nn.Linear):
                columns = _columns(self.units, each)
                bias += weight[:, columns] @ constants.repeat_interleave(each).to(weight)
            else:
                whole = weight.flatten(2).sum(2)
                for unit, constant in zip(self.units, constants.tolist(), strict=True):
                    rows, column = _kernel(module, unit)
                    if isinstance(module, TRANSPOSED):
                        raise AssertionError("a transposed convolution is never folded into")
                    bias[rows] += whole[rows, column] * constant

    def renew(self, initializer: Callable[[nn.Module], object] | None, changed: Changed) -> None:
        """Draw the rows of the producer again, and reset the norms between it and the consumers."""
        fresh = copy.deepcopy(self.producer)
        (initializer or _reset)(fresh)
        rows = list(self.units)
        for name in ("weight", "bias"):
            parameter = getattr(self.producer, name, None)
            if parameter is None:
                continue
            drawn = getattr(fresh, name)
            if name == "weight" and isinstance(self.producer, TRANSPOSED):
                per = parameter.shape[1]
                for unit in rows:
                    group, column = divmod(unit, per)
                    size = parameter.shape[0] // self.producer.groups
                    where = (slice(group * size, (group + 1) * size), column)
                    parameter[where] = drawn[where]
                    changed.add(parameter, where)
            else:
                parameter[rows] = drawn[rows]
                changed.add(parameter, (rows,))
        for norm in self.norms:
            for name, value in (("running_mean", 0.0), ("running_var", 1.0), ("weight", 1.0), ("bias", 0.0)):
                tensor = getattr(norm, name, None)
                if tensor is not None:
                    tensor[rows] = value
                    changed.add(tensor, (rows,))

    def cut(self, changed: Changed) -> None:
        """Make every weight of the consumers that takes these units zero."""
        for module, each, _ in self.consumers:
            weight = _parameter(module, "weight")
            where: tuple[Any, ...]
            if isinstance(module, nn.Linear):
                where = (slice(None), _columns(self.units, each))
                weight[where] = 0.0
                changed.add(weight, where)
            else:
                for unit in self.units:
                    where = (unit,) if isinstance(module, TRANSPOSED) else _kernel(module, unit)
                    weight[where] = 0.0
                    changed.add(weight, where)


class Changed:
    """Record of the entries of parameters that were set."""

    def __init__(self) -> None:
        self.entries: list[tuple[Tensor, tuple[Any, ...]]] = []

    def add(self, tensor: Tensor, where: tuple[Any, ...]) -> None:
        """Record that these entries were set."""
        self.entries.append((tensor, where))

    def forget(self, optimizer: torch.optim.Optimizer) -> Iterator[str]:
        """Reset the state of an optimizer at these entries; yield what was reset, in words."""
        starts = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        names: set[str] = set()
        steps = False
        for parameter, where in self.entries:
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if not isinstance(value, Tensor):
                    continue
                if value.shape == parameter.shape and value.ndim:
                    # Adagrad's sum starts at an argument of it, everything else at 0.
                    group = starts.get(id(parameter), {})
                    value[where] = float(group.get("initial_accumulator_value", 0.0)) if name == "sum" else 0.0
                    names.add(name)
                elif name == "step":
                    steps = True
        if names:
            yield f"optimizer ({type(optimizer).__name__}): {', '.join(sorted(names))} of these entries reset"
        if steps and "exp_avg_sq" in names:
            yield "  step is one number a parameter and stays: their first updates can exceed the learning rate"


def _reset(module: nn.Module) -> None:
    module.reset_parameters()  # type: ignore[operator]


def _parameter(module: nn.Module, name: str) -> Tensor:
    tensor = getattr(module, name)
    assert isinstance(tensor, Tensor)
    return tensor


def _columns(units: Sequence[int], each: int) -> list[int]:
    return [unit * each + i for unit in units for i in range(each)]


def _kernel(module: nn.Module, unit: int) -> tuple[slice, int]:
    """Rows and column of a convolution's weight that take this input channel."""
    groups = int(module.groups)  # type: ignore[arg-type]
    group, column = divmod(unit, int(module.in_channels) // groups)  # type: ignore[arg-type]
    size = int(module.out_channels) // groups  # type: ignore[arg-type]
    return slice(group * size, (group + 1) * size), column
