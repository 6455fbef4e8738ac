"""One network of a library: how to make it and a batch for it, and what these libraries need to be loaded."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

Batch = Tensor | dict[str, Any]

SMOOTH = frozenset(
    {"GELU", "GELUTanh", "QuickGELU", "NewGELUActivation", "GELUActivation", "SiLU", "SiLUActivation", "Swish"}
    | {"MemoryEfficientSwish", "Hardswish", "HardSwish", "HSwish", "Mish", "ELU"}
)
"""Names of the classes of smooth activations."""


class Network(NamedTuple):
    """A network with random weights, and the batches that it takes."""

    build: Callable[[], nn.Module]
    batch: Callable[[int], Batch]

    def make(self) -> nn.Module:
        """Make the network in evaluation mode; the weights are the same each time."""
        prepare()
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.build().eval()


def noise(*shape: int) -> Callable[[int], Tensor]:
    """Batches of noise, each sample of this shape."""
    return lambda size: torch.randn(size, *shape, generator=torch.Generator().manual_seed(1))


def prepare() -> None:
    """Let torchvision load beside a PyTorch that it was not built for: its operators in C++ stay undefined."""
    name = "torchvision._meta_registrations"
    sys.modules.setdefault(name, types.ModuleType(name))


def load(module: str, name: str) -> Any:
    """Return an object of a library, which is imported when it is asked for."""
    prepare()
    return getattr(importlib.import_module(module), name)


def with_relu(model: nn.Module) -> nn.Module:
    """Put `torch.nn.ReLU` in place of every smooth activation module, as the older networks of the kind have."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ in SMOOTH:
                setattr(module, name, nn.ReLU())
    return model
