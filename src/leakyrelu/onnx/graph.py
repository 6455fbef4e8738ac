"""The graph of an ONNX model: its rectifiers, its constants, and which nodes a tensor depends on."""

from __future__ import annotations

import importlib
import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leakyrelu._text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


RECTIFIERS = ("Relu", "LeakyRelu", "PRelu", "Clip")
# Operators that are named as what feeds a rectifier; those between, such as Reshape and Add, are looked through.
_LAYERS = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "Gemm", "MatMul", "MatMulInteger", "Einsum"}
    | {"QLinearMatMul", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"}
    | {"RMSNormalization", "LSTM", "GRU", "RNN", "Attention", *RECTIFIERS}
)
_LARGEST_CONSTANT = 2**26  # elements of a slope or a bound that are read


class Rectifier(NamedTuple):
    """A node that rectifies, as what is counted needs it."""

    name: str
    kind: str
    tensor: str  # its input
    slope: NDArray[np.float64]
    ceiling: float
    after: str  # names of the nodes that feed it


class Graph:
    """The graph of a model, by name: what produces a tensor, and what is constant."""

    def __init__(self, model: Any, folder: Path) -> None:
        self.graph = graph = model.graph
        self.folder = folder
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.hidden = [name for node in graph.node for name in _hidden(node)]
        self.hidden += [name for function in model.functions for name in _hidden_in(function)]
        self._fixed = {"", *self.initializers, *(tensor.values.name for tensor in graph.sparse_initializer)}
        for node in graph.node:
            if self._fixed.issuperset(uses(node)) and not _text(node.op_type).startswith(("Random", "Multinomial")):
                self._fixed.update(node.output)

    def rectifiers(self) -> list[Rectifier]:
        """Return the nodes that rectify; a ValueError names one that is no valid node."""
        taken: set[str] = set()
        found = []
        for node in self.graph.node:
            if node.domain not in ("", "ai.onnx") or node.op_type not in RECTIFIERS:
                continue
            if not (node.output and node.output[0] and node.input and node.input[0]):
                raise ValueError(f"its node {_label(node)!r} ({node.op_type}) lacks an input or an output")
            numbers = self._slope_and_ceiling(node)
            if numbers is None:
                continue
            output = _text(node.output[0])
            others = (f"{output}:{number}" for number in itertools.count())
            name = next(
                name for name in itertools.chain((_text(node.name), output), others) if name and name not in taken
            )
            taken.add(name)
            found.append(Rectifier(name, node.op_type, node.input[0], *numbers, self._feeding(node.input[0])))
        return found

    def is_fixed(self, tensor: str) -> bool:
        """Whether a tensor is the same for all data: a weight, or computed of weights alone."""
        return tensor in self._fixed

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of an initializer or of a Constant node, None where it is computed otherwise."""
        seen: set[str] = set()
        while name not in self.initializers and name not in seen:
            seen.add(name)
            producer = self.producers.get(name)
            if producer is None:
                return None
            if producer.op_type in ("Identity", "Cast") and producer.input:
                name = producer.input[0]
            elif producer.op_type == "Constant" and producer.attribute:
                given = producer.attribute[0]
                return self._array(given.t, name) if given.name == "value" else np.asarray(_value(given))
            else:
                return None
        tensor = self.initializers.get(name)
        return None if tensor is None else self._array(tensor, name)

    def _small_constant(self, name: str) -> NDArray[Any] | None:
        try:
            return self.constant(name)
        except ValueError:  # what is no slope and no bound may be of any size
            return None

    def needed(self, tensors: list[str]) -> list[Any]:
        """Return the nodes that these tensors depend on, in order."""
        wanted, kept = set(tensors), []
        for node in reversed(self.graph.node):
            if wanted.intersection(node.output):
                wanted.update(uses(node))
                kept.append(node)
        return kept[::-1]

    def _array(self, tensor: Any, name: str) -> NDArray[Any]:
        try:
            if math.prod(tensor.dims) > _LARGEST_CONSTANT:
                raise ValueError(f"it has the shape {tuple(tensor.dims)}")
            to_array = importlib.import_module("onnx.numpy_helper").to_array
            return np.asarray(to_array(tensor, base_dir=str(self.folder)))
        except Exception as error:
            raise ValueError(f"its constant {_text(name)!r} cannot be read: {first_line(error)}") from None

    def _number(self, value: NDArray[Any] | None, name: str) -> float | None:
        if value is None:
            return None
        if value.size != 1 or value.dtype.kind not in "fiub":
            raise ValueError(
                f"its constant {_text(name)!r} is to be one number, but has shape {value.shape} and type {value.dtype}"
            )
        return float(value.reshape(-1)[0])

    def _slope_and_ceiling(self, node: Any) -> tuple[NDArray[np.float64], float] | None:
        """Return slope and ceiling of a rectifier; None where the node is not one."""
        zero = np.zeros(())
        if node.op_type == "Relu":
            return zero, math.inf
        if node.op_type == "LeakyRelu":
            return np.array(_float(node, "alpha", 0.01)), math.inf
        if node.op_type == "PRelu":
            if len(node.input) < 2:
                raise ValueError(f"its node {_label(node)!r} (PRelu) has no slopes")
            slope = self.constant(node.input[1])
            if slope is None:
                self.hidden.append(f"{_label(node)} (its slopes are computed)")
                return None
            if slope.dtype.kind not in "fiu" and slope.dtype.name != "bfloat16":
                raise ValueError(f"the slopes of its node {_label(node)!r} have type {slope.dtype}")
            return slope.astype(np.float64), math.inf
        low, high = self._bound(node, 1, "min"), self._bound(node, 2, "max")
        if low != 0.0 or high is None or high <= 0.0 or self._is_gate(node):
            return None
        return zero, high

    def _bound(self, node: Any, position: int, name: str) -> float | None:
        """Return a bound of a Clip: an attribute before opset 11, an input since. Infinity where there is none."""
        if len(node.input) > position and node.input[position]:
            constant = self.constant(node.input[position])
            if constant is not None and constant.dtype.name == "bfloat16":
                constant = constant.astype(np.float32)
            return self._number(constant, node.input[position])
        limit = 3.4e38  # older exporters write the largest float32 for none
        bound = _float(node, name, -math.inf if name == "min" else math.inf)
        return math.inf if bound >= limit else bound

    def _is_gate(self, node: Any) -> bool:
        """Whether this is the Clip(x + 3, 0, 6) of hard-swish or hard-sigmoid."""
        producer = self.producers.get(node.input[0])
        if producer is None or producer.op_type != "Add":
            return False
        constants = [value for name in producer.input if (value := self._small_constant(name)) is not None]
        return any(value.size == 1 and value.dtype.kind == "f" and value.item() == 3.0 for value in constants)

    def _feeding(self, tensor: str) -> str:
        """Name the layers whose outputs reach a tensor with nothing but reshapes, sums and the like in between."""
        names: list[str] = []
        seen: set[str] = set()
        ahead = [tensor]
        while ahead and len(names) < 4:
            name = ahead.pop()
            node = self.producers.get(name)
            if node is None or name in seen or self.is_fixed(name):
                continue
            seen.add(name)
            if node.op_type in _LAYERS:
                names.append(_label(node))
            else:
                ahead.extend(reversed(node.input))
        return " + ".join(dict.fromkeys(names))


def _hidden(node: Any) -> Iterator[str]:
    """Yield the names of rectifiers within the branches of a node."""
    for graph in branches(node):
        yield from _hidden_in(graph)


def _hidden_in(graph: Any) -> Iterator[str]:
    for inner in graph.node:
        if inner.op_type in RECTIFIERS[:3]:
            yield _label(inner)
        yield from _hidden(inner)


def uses(node: Any) -> Iterator[str]:
    """Yield the tensors that a node takes, those used within its branches too."""
    yield from node.input
    for graph in branches(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from uses(inner)


def attribute(node: Any, name: str, default: Any) -> Any:
    """Return the value of an attribute of a node, or the default."""
    return next((_value(each) for each in node.attribute if each.name == name), default)


def branches(node: Any) -> list[Any]:
    """Return the graphs within a node: the branches of an If, the body of a Loop."""
    return [graph for each in node.attribute for graph in (each.g, *each.graphs)]


def _float(node: Any, name: str, default: float) -> float:
    value = attribute(node, name, default)
    if not isinstance(value, float | int):
        raise ValueError(f"the attribute {name!r} of its node {_label(node)!r} is no number")
    return float(value)


def _value(given: Any) -> Any:
    return importlib.import_module("onnx.helper").get_attribute_value(given)


def _label(node: Any) -> str:
    """Return the name of a node, or that of its output where it has none."""
    return _text(node.name) or (_text(node.output[0]) if node.output else "")


def _text(name: str | bytes) -> str:
    """Return a name as text; one that is not UTF-8 comes as bytes."""
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else name
