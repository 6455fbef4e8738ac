"""Exchange of modules of a model for others, and the way back."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from leakyrelu.torch._checks import require_module
from leakyrelu.torch.normalization.fused import FusedNorm


class Exchange(NamedTuple):
    """A module under all its names, and the one in its place."""

    names: list[str]
    old: nn.Module
    new: nn.Module


class Absorbed(nn.Identity):
    """An identity in place of a Leaky ReLU that the normalization before it computes now."""

    _original: nn.Module

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "_original", original)
        self.training = original.training

    def extra_repr(self) -> str:
        """Return the layer that was here."""
        return repr(self._original)


def exchange(names: list[str], old: nn.Module, new: nn.Module) -> Exchange:
    """Return the exchange of a module for another that remembers it."""
    object.__setattr__(new, "_original", old)
    return Exchange(names, old, new)


def names_of(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Return every name of every module of a model."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def replace(model: nn.Module, step: list[Exchange], undo: bool = False) -> None:
    """Replace modules together: an activation, and the normalizations that compute it from then on."""
    for names, old, new in step:
        for name in names:
            parent, _, child = name.rpartition(".")
            model.get_submodule(parent).register_module(child, old if undo else new)


def restore(model: nn.Module) -> int:
    """Undo `save_memory`: put the very same modules back, with the parameters and statistics of now.

    Parameters
    ----------
    model
        A model that `save_memory` rewrote, or a copy of it. It is changed.

    Returns
    -------
    int
        How many modules were put back; 0 if there was nothing to undo.

    Raises
    ------
    TypeError
        If `model` is not a module.
    RuntimeError
        If a joined layer was pruned or parametrized, which has to be made permanent first.

    Examples
    --------
    >>> from torch import nn
    >>> from leakyrelu.torch import restore, save_memory
    >>> act = nn.LeakyReLU(0.1)
    >>> model = nn.Sequential(nn.Linear(3, 4), act)
    >>> _ = save_memory(model)
    >>> restore(model), model[1] is act
    (1, True)
    """
    require_module(model)
    changed = [
        Exchange(names, original.train(module.training), module)
        for module, names in names_of(model).items()
        if isinstance(original := vars(module).get("_original"), nn.Module)
    ]
    for _, _, module in changed:
        if isinstance(module, FusedNorm):
            module.require_shared_parameters()
    replace(model, changed, undo=True)
    return len(changed)
