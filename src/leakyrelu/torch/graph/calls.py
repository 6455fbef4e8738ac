"""What a recording of a forward pass consists of: calls of functions and layers, and tensors that no call made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leakyrelu.diagnosis.layout import Layout


class Value:
    """A tensor of a forward pass that no call made: a parameter or buffer, or an input of the model.

    `name` is that of the parameter or buffer; empty for an input.
    """

    __slots__ = ("is_parameter", "layout", "name", "shape", "sources", "weights")

    def __init__(self, name: str, shape: tuple[int, ...], is_parameter: bool = False) -> None:
        self.name = name
        self.is_parameter = is_parameter
        self.shape = shape
        self.layout: Layout | None = None
        self.sources: tuple[str, ...] = ()
        self.weights: tuple[Call | Value, ...] = ()

    @property
    def is_weight(self) -> bool:
        """Whether it is the same for all samples."""
        return bool(self.name)

    @property
    def weight_name(self) -> str:
        """Its name."""
        return self.name


class Call:
    """One call of a function or layer, and one tensor that it returned.

    Parameters
    ----------
    function
        The function or method; the type of the module for a layer that was not looked into.
    name
        Name of the function, without underscores; of the type for a layer.
    module
        Path of the module that made the call; of the layer itself for one that was not looked into.
    args, kwargs
        The arguments, with a `Call` or `Value` for each tensor.
    shape
        Shape of the tensor that was returned.
    """

    __slots__ = (
        *("args", "function", "is_parameter", "is_weight", "key", "kwargs", "layout", "module", "name"),
        *("output", "shape", "sources", "weights"),
    )

    def __init__(
        self,
        function: Any,
        name: str,
        module: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        shape: tuple[int, ...],
        output: int | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.module = module
        self.args = args
        self.kwargs = kwargs
        self.shape = shape
        self.output = output  # which of the tensors that were returned; None where there is one
        self.layout: Layout | None = None
        self.sources: tuple[str, ...] = ()  # names of the layers and rectifiers that feed it
        self.weights: tuple[Call | Value, ...] = ()  # the latest calls with weights that it depends on
        self.is_weight = False  # whether it is the same for all samples,
        self.is_parameter = False  # and computed of parameters
        self.key: Any = None  # of the row that counts it, for a rectifier

    @property
    def inputs(self) -> list[Call | Value]:
        """The tensors among the arguments."""
        return tensors_of(self.args, self.kwargs)

    @property
    def weight_name(self) -> str:
        """The weight of the call, not its bias; the layer, for one that was not looked into."""
        pending = sorted(self.inputs, key=lambda each: len(each.shape))
        while pending:
            each = pending.pop()
            if type(each) is Value and each.name:
                return each.name
            if type(each) is Call and each.is_weight:
                first, *rest = each.args or (None,)
                if each.name == "getitem" and type(first) is Value and first.name and isinstance(rest[0], int):
                    return f"{first.name}[{rest[0]}]"
                pending += each.inputs[::-1]
        return self.module or self.name

    def __repr__(self) -> str:
        return f"<Call {self.name} in {self.module or 'the model'}: {self.shape}>"


def tensors_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Call | Value]:
    """Return the tensors among arguments, those in lists included."""
    found: list[Call | Value] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind is Call or kind is Value:
            found.append(value)
        elif kind is tuple:
            found += tensors_of(value, {})
    return found
