"""Bytes that autograd keeps after one forward pass, for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from leakyrelu.torch._checks import require_module
from leakyrelu.torch._compat import sparse_parts
from leakyrelu.torch.graph.tracing import call_model


@dataclass(frozen=True)
class ModuleMemory:
    """Bytes that one module keeps.

    Attributes
    ----------
    name
        As in `model.named_modules()`; empty for the model itself.
    kind
        Class of the module.
    bytes
        What it saved first, itself and not by a module inside it; its storages add up with those of the others to
        `ActivationMemory.bytes`.
    """

    name: str
    kind: str
    bytes: int


@dataclass(frozen=True)
class ActivationMemory:
    """What autograd keeps after one forward pass. Its repr is the table.

    Attributes
    ----------
    bytes
        All storages that were saved and are none of the others below, each counted once and whole.
    input_bytes
        The storages of the input, where something saved them.
    parameter_bytes
        Storages of parameters and buffers that were saved: they are there anyway.
    modules
        One `ModuleMemory` for each module that saved something new, in the order of the first saving.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import activation_memory
    >>> count = activation_memory(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(10, 4))
    >>> count.bytes, count.input_bytes, [(module.name, module.bytes) for module in count.modules]
    (160, 160, [('1', 160)])
    """

    bytes: int
    input_bytes: int
    parameter_bytes: int
    modules: tuple[ModuleMemory, ...]

    def __repr__(self) -> str:
        rows = [("module", "kind", "bytes kept")]
        rows += [(module.name or "(model)", module.kind, f"{module.bytes:,}") for module in self.modules]
        rows.append(("total", "", f"{self.bytes:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {kept:>{widths[2]}}" for name, kind, kept in rows]
        lines.insert(1, "-" * len(lines[0]))
        lines.insert(-1, lines[1])
        lines.append(f"apart: input {self.input_bytes:,}, parameters and buffers {self.parameter_bytes:,}")
        return "\n".join(lines)


def activation_memory(model: nn.Module, input: Any) -> ActivationMemory:  # noqa: A002
    """Run the model once and count the bytes that autograd keeps for the backward pass.

    Counted are the storages of saved tensors, each once and whole, however many tensors share it and however small the
    saved part of it is: that is what stays allocated. Parameters and buffers, and the input itself, are counted apart.
    What a backward pass allocates while it runs (gradients, workspaces), and what functions keep outside
    `ctx.save_for_backward`, is not seen. Inside `torch.utils.checkpoint` nothing is kept but its inputs, as it should
    be; PyTorch's own compiled graphs are counted with the module that calls them.

    Parameters
    ----------
    model
        Any module, on any device, in the mode (training or not) in which it is. Its buffers change as in any forward
        pass, its gradients do not.
    input
        A tensor, or a tuple or list of arguments, or a dict of keyword arguments.

    Raises
    ------
    TypeError
        If `model` is not a module.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import LeakyReLU, activation_memory
    >>> x = torch.randn(2**16, 16)
    >>> activation_memory(nn.Sequential(nn.Linear(16, 16), nn.LeakyReLU()), x)
    module  kind       bytes kept
    -----------------------------
    1       LeakyReLU   4,194,304
    -----------------------------
    total               4,194,304
    apart: input 4,194,304, parameters and buffers 0
    >>> activation_memory(nn.Sequential(nn.Linear(16, 16), LeakyReLU()), x).bytes
    131072
    """
    require_module(model, "; wrap a function in a module")
    # Storages stay until the end: the memory of one that is freed could be another's.
    inputs, parameters = _storages(input), _storages([*model.parameters(), *model.buffers()])
    saved: dict[torch.UntypedStorage, tuple[str, int]] = {}
    running = [""]

    def save(tensor: torch.Tensor) -> torch.Tensor:
        for storage in _storages(tensor):
            saved.setdefault(storage, (running[-1], storage.nbytes()))
        return tensor

    def enter(name: str, *_: Any) -> None:
        running.append(name)

    def leave(*_: Any) -> None:
        running.pop()

    names = {module: name for name, module in model.named_modules()}
    handles = [module.register_forward_pre_hook(partial(enter, name), prepend=True) for module, name in names.items()]
    handles += [module.register_forward_hook(leave, always_call=True) for module in names]
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            call_model(model, input)
    finally:
        for handle in handles:
            handle.remove()
    kept: dict[str, int] = {}
    input_bytes = parameter_bytes = 0
    for storage, (name, size) in saved.items():
        if storage in parameters:
            parameter_bytes += size
        elif storage in inputs:
            input_bytes += size
        elif size:
            kept[name] = kept.get(name, 0) + size
    kinds = {name: type(module).__name__ for module, name in names.items()}
    modules = tuple(ModuleMemory(name, kinds[name], size) for name, size in kept.items())
    return ActivationMemory(sum(kept.values()), input_bytes, parameter_bytes, modules)


def _storages(value: Any) -> set[torch.UntypedStorage]:
    if isinstance(value, torch.Tensor):
        return {part.untyped_storage() for part in _parts(value)}
    items: Any = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return {storage for item in items for storage in _storages(item)}


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the dense tensors that a tensor consists of."""
    if tensor.layout is torch.strided:
        return [tensor]
    if tensor.layout is torch.sparse_coo:
        return sparse_parts(tensor)
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []
