"""Whether the code of a module can call a rectifier by a function, judged by the names that it holds.

A call needs a name: of a function, of a method, or in a string for `getattr`. So code without such a name, in a method
of a module or in what it refers to, calls none. A name that a module gives to a submodule, as in ``self.relu(x)``, does
not count. What cannot be read may do anything.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from leakyrelu.torch.diagnosis.rectifiers import READERS

_NAMES = frozenset([*READERS, *(f"{name}_" for name in READERS)])
_HARMLESS = (bool, int, float, complex, str, bytes, type(None), torch.Tensor, torch.dtype, torch.device, np.ndarray)
_CONTAINERS = (list, tuple, set, frozenset)
# What their functions call inside is not observed, or is no function of PyTorch.
_OPAQUE = frozenset({"torch", "numpy", "builtins", *sys.stdlib_module_names})
_MOST = 3000  # objects looked at, beyond which the answer is yes
_of_types: WeakKeyDictionary[type, set[str] | None] = WeakKeyDictionary()


def can_call_rectifier(module: nn.Module) -> bool:
    """Whether a module may call a rectifier by a function while it runs, its submodules aside.

    Examples
    --------
    >>> import torch.nn.functional as F
    >>> class Block(nn.Module):
    ...     def forward(self, x):
    ...         return F.relu(x)
    >>> can_call_rectifier(Block()), can_call_rectifier(nn.Sequential())
    (True, False)
    """
    kind = type(module)
    if kind not in _of_types:
        _of_types[kind] = _own_names([kind])
    own = _of_types[kind]
    if own is None or not all(isinstance(getattr(module, name, None), nn.Module) for name in own):
        return True
    values = [value for name, value in vars(module).items() if not name.startswith("_") and not _is_harmless(value)]
    return bool(values) and _own_names(values) != set()


def _own_names(objects: list[Any]) -> set[str] | None:
    """Return the names of rectifiers that code takes from its module; None where it may have one from elsewhere."""
    pending, seen, own = [*objects], set[int](), set[str]()
    while pending:
        each = pending.pop()
        if _is_harmless(each) or id(each) in seen:
            continue
        seen.add(id(each))
        found = _references(each, own) if len(seen) < _MOST else None
        if found is None:
            return None
        pending += found
    return own


def _is_harmless(each: Any) -> bool:
    return isinstance(each, (*_HARMLESS, nn.Module))


def _references(each: Any, own: set[str]) -> list[Any] | None:
    """Return what an object leads to; None where it has a name of a rectifier, or cannot be read."""
    if isinstance(each, dict):
        return [*each.keys(), *each.values()]
    if isinstance(each, _CONTAINERS):
        return list(each)
    if isinstance(each, functools.partial):
        return [each.func, *each.args, *each.keywords.values()]
    if isinstance(each, types.ModuleType):
        return []  # what is called of it stands in the code that calls
    if _is_opaque(each):
        return None if getattr(each, "__name__", "") in _NAMES else []
    if isinstance(each, types.FunctionType):
        return _of_function(each, own)
    if isinstance(each, (types.MethodType, staticmethod, classmethod)):
        return [each.__func__]
    if isinstance(each, property):
        return [each.fget]
    if isinstance(each, type):
        return [member for kind in each.__mro__ if not _is_opaque(kind) for member in vars(kind).values()]
    return None if callable(each) else [type(each), *getattr(each, "__dict__", {}).values()]


def _is_opaque(each: Any) -> bool:
    name = getattr(each, "__module__", None) or getattr(type(each), "__module__", "")
    return isinstance(name, str) and name.partition(".")[0] in _OPAQUE


def _of_function(function: types.FunctionType, own: set[str]) -> list[Any] | None:
    names: set[str] = set()
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        names.update(code.co_names)
        pending += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        if not _NAMES.isdisjoint(constant for constant in code.co_consts if isinstance(constant, str)):
            return None
        if not _NAMES.isdisjoint(code.co_names):
            taken = _taken_from_first(code)
            if taken is None:
                return None
            own |= taken
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    modules = [each for each in found if isinstance(each, types.ModuleType) and not _is_opaque_module(each)]
    return [*cells, *found, *(vars(module)[name] for module in modules for name in names if name in vars(module))]


def _taken_from_first(code: types.CodeType) -> set[str] | None:
    """Return the names of rectifiers that are attributes of the first argument; None where one is another's."""
    taken, before = set(), None
    for instruction in dis.get_instructions(code):
        if isinstance(instruction.argval, str) and instruction.argval in _NAMES:
            first = (
                before is not None and before.opname.startswith("LOAD_FAST") and before.argval == code.co_varnames[0]
            )
            if not (first and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR")):
                return None
            taken.add(instruction.argval)
        before = instruction
    return taken


def _is_opaque_module(module: types.ModuleType) -> bool:
    return module.__name__.partition(".")[0] in _OPAQUE


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
