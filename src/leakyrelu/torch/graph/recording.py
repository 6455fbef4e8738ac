"""Recording of a forward pass: which function or layer made each tensor, of what, and where its units lie.

No tensor is kept: a call knows the calls that made its arguments, and the shape of its result. What made a tensor is
looked up by identity, in weak references, so that a view or a result that was changed in place is a tensor of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from leakyrelu.torch._compat import DisableTorchFunction
from leakyrelu.torch.graph.calls import Call, Value, tensors_of
from leakyrelu.torch.graph.layout_rules import layout_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import nn

_MOST_CALLS = 20_000  # of modules that are called one by one, without the model around them
_MOST_SOURCES = 8  # what feeds a sum of all layers before it, as in a DenseNet, would grow without end


class Recording:
    """The calls of a forward pass, in their order.

    `names` gives the name of each parameter and buffer by identity.
    """

    def __init__(self, names: Mapping[int, tuple[weakref.ReferenceType[Tensor], str]]) -> None:
        self.calls: list[Call] = []
        self.outputs: list[Call | Value] | None = None  # of the model; None where it has not returned tensors
        self.repeats: dict[Any, int] = {}
        self._names = names
        self._made: dict[int, tuple[weakref.ReferenceType[Tensor], Call | Value]] = {}

    def anew(self) -> Recording:
        """Return an empty recording of the same model."""
        return Recording(self._names)

    @property
    def is_full(self) -> bool:
        """Whether it is time to begin another."""
        return len(self.calls) >= _MOST_CALLS

    def what_made(self, x: Tensor) -> Call | Value:
        """Return the call that made a tensor, or what stands for the tensor itself."""
        made = self._made.get(id(x))
        if made is not None and made[0]() is x:
            return made[1]
        named = self._names.get(id(x))
        name = named[1] if named is not None and named[0]() is x else ""
        # In TorchScript a parameter has no class of its own.
        is_parameter = isinstance(x, torch.nn.Parameter) or (bool(name) and x.requires_grad)
        value = Value(name or ("a parameter" if is_parameter else ""), shape_of(x), is_parameter)
        self._made[id(x)] = weakref.ref(x), value
        return value

    def add(
        self,
        function: Any,
        name: str,
        module: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        axis: int | None = None,
    ) -> None:
        """Record a call; `axis` is that of the units in its result, for a layer that was not looked into."""
        with DisableTorchFunction():
            args = tuple([self._described(value) for value in args])
            kwargs = {key: self._described(value) for key, value in kwargs.items()} if kwargs else kwargs
            if isinstance(result, Tensor):
                self._add(Call(function, name, module, args, kwargs, shape_of(result)), result, axis)
            elif isinstance(result, tuple | list):
                for output, tensor in enumerate(result):
                    if isinstance(tensor, Tensor):
                        call = Call(function, name, module, args, kwargs, shape_of(tensor), output)
                        self._add(call, tensor, axis)
            elif name == "setitem" and args and isinstance(args[0], Call | Value):
                self._add(Call(function, name, module, args, kwargs, args[0].shape), self._changed(args[0]), axis)

    def _add(self, call: Call, result: Tensor | None, axis: int | None) -> None:
        self.record(call, axis)
        if result is not None:
            self._made[id(result)] = weakref.ref(result), call

    def record(self, call: Call, axis: int | None) -> None:
        """Append a call whose arguments are calls and values already; `axis` is as for `add`."""
        inputs = tensors_of(call.args, call.kwargs)
        call.is_weight = axis is None and all(each.is_weight for each in inputs)
        call.is_parameter = call.is_weight and any(each.is_parameter for each in inputs)
        call.layout, makes_units = layout_of(call, inputs, axis)
        if makes_units and not call.is_weight:
            weight = call.weight_name  # of a program in a file, whose calls are in no module
            call.sources, call.weights = (call.module or weight.rpartition(".")[0] or weight,), (call,)
        else:
            call.sources, call.weights = _union("sources", inputs), _weights(inputs)
        self.calls.append(call)

    def add_rectifier(
        self,
        function: Any,
        kind: str,
        name: str,
        key: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
    ) -> None:
        """Record a call of a rectifier that goes by `name`, and is counted in the row that `key` identifies."""
        first = len(self.calls)
        self.add(function, kind.lower(), name, args, kwargs, result)
        for call in self.calls[first:]:
            call.sources, call.key = (name,), key
            call.layout = call.layout or next((each.layout for each in call.inputs if each.shape == call.shape), None)

    def end(self, result: Any) -> None:
        """Note what the model returned."""
        with DisableTorchFunction():
            tensors = [*_tensors(result)]
            self.outputs = [self.what_made(tensor) for tensor in tensors] or None

    def nearest(self, shape: tuple[int, ...]) -> Call | None:
        """Find the latest call whose result has this shape and units at a known place, or else as many axes."""
        like = None
        for call in reversed(self.calls):
            if call.layout is not None and len(call.shape) == len(shape):
                if call.shape == shape:
                    return call
                like = like or call
        return like

    def _changed(self, value: Call | Value) -> Tensor | None:
        """Find the tensor that a call made."""
        found = (ref() for ref, made in reversed(self._made.values()) if made is value)
        return next(found, None)

    def _described(self, value: Any) -> Any:
        kind = type(value)
        if kind is int or kind is float or value is None or kind is bool:
            return value
        if isinstance(value, Tensor):
            return self.what_made(value)
        if isinstance(value, tuple | list):
            return tuple([self._described(each) for each in value])
        return value


class Program:
    """What a model called along each path that was recorded whole.

    Parameters
    ----------
    passes
        For each path, by what identifies it: the calls, the outputs of the model (None where they are not known), and
        the names of the rows that count calls, by `Call.key`.
    unrecorded
        Names of the rows that count calls along other paths too.
    recorded
        Whether it was recorded; otherwise it was traced.
    """

    def __init__(
        self,
        passes: Mapping[int, tuple[Sequence[Call], Sequence[Call | Value] | None, Mapping[Any, str]]],
        unrecorded: Iterable[str] = (),
        recorded: bool = True,
    ) -> None:
        self.passes = dict(passes)
        self.unrecorded = frozenset(unrecorded)
        self.recorded = recorded

    def __add__(self, other: Program) -> Program:
        return Program({**other.passes, **self.passes}, self.unrecorded | other.unrecorded)


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
        return
    if isinstance(result, Mapping):
        result = result.values()
    elif not isinstance(result, tuple | list):
        result = vars(result).values() if hasattr(result, "__dict__") else ()
    for each in result:
        yield from _tensors(each)


def _weights(inputs: list[Call | Value]) -> tuple[Call | Value, ...]:
    found = _union("weights", inputs)
    return found or tuple([each for each in inputs if type(each) is Value and each.name])


def _union(attribute: str, inputs: list[Call | Value]) -> tuple[Any, ...]:
    """Collect what feeds a tensor, the newest branch of a sum first."""
    branches = [branch for each in inputs if (branch := getattr(each, attribute))]
    if len(branches) < 2:
        return branches[0] if branches else ()
    branches.sort(key=len)
    return tuple(dict.fromkeys(each for branch in branches for each in branch))[:_MOST_SOURCES]


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor; of a nested one, which has none, that of a number."""
    return () if tensor.is_nested else tuple(tensor.shape)


def names_of(model: nn.Module) -> dict[int, tuple[weakref.ReferenceType[Tensor], str]]:
    """Return the names of parameters and buffers by identity, for a `Recording`."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {id(tensor): (weakref.ref(tensor), name) for name, tensor in named}
