"""Module names of version 0.1 that code and pickles may hold, and where their contents are now.

A whole model saved with `torch.save` or `pickle` names the module of each of its classes, so these names have to import
as long as such files are around. The finder stands at the end of `sys.meta_path` and is asked only for what no other
finder knows: the names cost nothing until one of them is imported.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MOVED: dict[str, tuple[str, ...]] = {
    "leakyrelu.census": ("leakyrelu.diagnosis.counts", "leakyrelu.diagnosis.layer", "leakyrelu.diagnosis.report"),
    "leakyrelu.findings": ("leakyrelu.diagnosis.findings",),
    "leakyrelu.history": ("leakyrelu.diagnosis.history",),
    "leakyrelu.report": ("leakyrelu.diagnosis",),
    "leakyrelu.report.serial": ("leakyrelu.diagnosis.render.serialize",),
    "leakyrelu.torch.exported": ("leakyrelu.torch.diagnosis.exported_program",),
    "leakyrelu.torch.functional": ("leakyrelu.torch.activations.functional",),
    "leakyrelu.torch.groups": ("leakyrelu.torch.optim",),
    "leakyrelu.torch.layers": ("leakyrelu.torch.activations.layers",),
    "leakyrelu.torch.learned": ("leakyrelu.torch.activations.parametric",),
    "leakyrelu.torch.memory": ("leakyrelu.torch.memory_profile",),
    "leakyrelu.torch.norm": ("leakyrelu.torch.normalization.layer",),
    "leakyrelu.torch.redirect": ("leakyrelu.torch.rewrite.function_calls",),
    "leakyrelu.torch.saving": ("leakyrelu.torch.rewrite.memory_saving",),
    "leakyrelu.torch.scripted": ("leakyrelu.torch.diagnosis.torchscript",),
    "leakyrelu.torch.sight": ("leakyrelu.torch.diagnosis.observer",),
}
"""Each old module, and the modules that hold its names now."""


class _Alias(ModuleType):
    """A module of an old name, whose attributes are those of the modules that took its place."""

    def __getattr__(self, name: str) -> Any:
        for module in MOVED[self.__name__]:
            if name == "__path__":
                break
            found = getattr(importlib.import_module(module), name, None)
            if found is not None:
                return found
        raise AttributeError(
            f"module {self.__name__!r} of version 0.1 is now {' and '.join(MOVED[self.__name__])}, which "
            f"{'has' if len(MOVED[self.__name__]) == 1 else 'have'} no {name!r}"
        )


class _Finder:
    """Finds the modules of `MOVED`, and is their loader."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name not in MOVED:
            return None
        return ModuleSpec(name, self, is_package=any(other.startswith(f"{name}.") for other in MOVED))  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Alias(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty: its attributes are looked up when they are asked for."""


sys.meta_path.append(_Finder())
