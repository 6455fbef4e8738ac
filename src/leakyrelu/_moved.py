"""Module names of version 0.1 that code and pickles may hold, and where their contents are now.

A whole model saved with `torch.save` or `pickle` names the module of each of its classes, so these names have to import
as long as such files are around. The finder stands at the end of `sys.meta_path` and is asked only for what no other
finder knows: the names cost nothing until one of them is imported.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

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


class _Finder:
    """Finds the modules of `MOVED`, and fills them with what their successors hold."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in MOVED:
            return None
        from importlib.machinery import ModuleSpec

        is_package = any(other.startswith(f"{name}.") for other in MOVED)
        return ModuleSpec(name, _Finder, is_package=is_package)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        for successor in MOVED[module.__name__]:
            held = vars(importlib.import_module(successor))
            vars(module).update({name: value for name, value in held.items() if not name.startswith("__")})


sys.meta_path.append(_Finder)
