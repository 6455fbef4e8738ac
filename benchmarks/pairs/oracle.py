"""Which normalizations of a network can be joined, read off the operators of one forward pass; nothing of leakyrelu.

A value is what a storage holds until it is changed in place. Views of a storage hold the same value, and so does the
output of a dropout of probability 0. A normalization can be joined with a Leaky ReLU if, in every call, its whole
output goes to one operator ``leaky_relu`` and to no other, and is no output of the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NORMALIZATIONS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
BY_NAME = frozenset({"FrozenBatchNorm2d", "FrozenBatchNormAct2d"})
"""Normalizations that are no subclass of PyTorch's."""

ACTIVATIONS = ("aten.leaky_relu.default", "aten.leaky_relu_.default")


class Value:
    """What a storage holds until it is changed in place, and the operators that take it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.takers: list[tuple[str, int]] = []

    @property
    def is_joinable(self) -> bool:
        """Whether all of it goes to one Leaky ReLU, and nothing else takes it."""
        return len(self.takers) == 1 and self.takers[0][0] in ACTIVATIONS and self.takers[0][1] == self.size


class _Functions(TorchFunctionMode):
    """A mode that changes nothing: layers that compute Leaky ReLU by kernels of their own call PyTorch's under it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The values of a forward pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values: dict[int, Value] = {}
        self.running: list[nn.Module] = []
        self.activated: list[tuple[nn.Module, Value]] = []
        self._kept: list[Tensor] = []  # so that no storage is used again

    def value(self, tensor: Tensor) -> Value:
        """Return what the storage of a tensor holds now."""
        key = tensor.untyped_storage().data_ptr() or id(tensor)
        if key not in self.values:
            self.values[key] = Value(tensor.numel())
            self._kept.append(tensor)
        return self.values[key]

    def renew(self, tensor: Tensor) -> None:
        """Let the storage of a tensor hold another value."""
        self.values.pop(tensor.untyped_storage().data_ptr(), None)
        self.value(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken = {id(each): each for each in tensors((args, kwargs))}.values()
        before = [(self.value(each), each.numel()) for each in taken]
        result = func(*args, **kwargs)
        written = [*_written(func, args, kwargs)]
        places = {each.untyped_storage().data_ptr() for each in taken}
        made = [*tensors(result)]
        if not written and made and all(each.untyped_storage().data_ptr() in places for each in made):
            self._kept.extend(made)
            return result  # a view
        if func is torch.ops.aten.native_dropout.default and (args[1] == 0 or args[2] is False):
            self.values[made[0].untyped_storage().data_ptr()] = before[0][0]
            self._kept.extend(made)
            return result
        for value, size in before:
            value.takers.append((str(func), size))
        if str(func) in ACTIVATIONS and self.running:
            self.activated.append((self.running[-1], before[0][0]))
        for each in (*written, *made):
            self.renew(each)
        return result


def joinable(model: nn.Module, run: Callable[[], Any]) -> tuple[set[str], set[str]]:
    """Run a network once; return the names of its normalizations that were called, and of those that can be joined."""
    flow = _Flow()
    found: dict[str, list[Value]] = {}
    handles = []

    def enter(module: nn.Module, *_: Any) -> None:
        flow.running.append(module)
        flow.activated.append((module, Value(0)))  # where its call begins

    def leave(name: str, module: nn.Module, output: Any) -> None:
        flow.running.pop()
        inside = []
        while (entry := flow.activated.pop())[1].size:
            inside.append(entry[1])
        value = inside[0] if len(inside) == 1 else flow.value(output)
        found.setdefault(name, []).append(value)

    for name, module in model.named_modules():
        if isinstance(module, NORMALIZATIONS) or type(module).__name__ in BY_NAME:
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(
                module.register_forward_hook(lambda module, _, output, name=name: leave(name, module, output))
            )
    try:
        with _Functions(), flow:
            result = run()
        outputs = [flow.value(each) for each in tensors(result)]
    finally:
        for handle in handles:
            handle.remove()
    pairs = {
        name
        for name, values in found.items()
        if all(value.is_joinable and not any(value is each for each in outputs) for value in values)
    }
    return set(found), pairs


def kept(model: nn.Module, batch: Any, run: Callable[[], Any]) -> int:
    """Return the bytes that autograd keeps of a forward pass: each storage once, without parameters and the input."""
    apart = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers(), *tensors(batch)]}
    saved: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in apart:
            saved.setdefault(storage.data_ptr(), (storage.nbytes(), tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(size for size, _ in saved.values())


def tensors(value: Any) -> Iterator[Tensor]:
    """Return every tensor of a nested structure."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors(each)


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Return the tensors that an operator writes into."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors(args[place] if place < len(args) else kwargs.get(argument.name))
