"""The graph of an ONNX model: its rectifiers and the axes of their units."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leakyrelu.diagnosis.unit_axis import CHANNELS, FEATURES, Producer, find_unit_axis, producer_from_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


_CONVOLUTIONS = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv")
_POOLINGS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Flatten")
_UNIT_AXES: dict[str, int] = {
    **dict.fromkeys((*_CONVOLUTIONS, *_POOLINGS), CHANNELS),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"), CHANNELS),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "LayerNormalization", "Einsum"), FEATURES),
    **dict.fromkeys(("RMSNormalization", "LSTM", "GRU", "RNN", "Gather", "Attention"), FEATURES),
}
# Operators that leave each number where it is.
_PASSING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Identity", "Cast", "Dropout", "Resize", "Pad", "Concat", "Slice"}
    | {"QuantizeLinear", "DequantizeLinear", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "Tanh"}
)
_KINDS = ("Relu", "LeakyRelu", "PRelu", "Clip")
_FUSED = ("FusedConv", "FusedGemm", "FusedMatMul")  # the rectifier inside them cannot be observed


class _Rectifier(NamedTuple):
    name: str
    kind: str
    tensor: str  # its input
    slope: NDArray[np.float64]
    ceiling: float
    axis: int  # -1 for the last


class _Graph:
    """The graph of a model, by name: what produces a tensor, and what is constant."""

    def __init__(self, graph: Any, folder: Path) -> None:
        self.graph = graph
        self.folder = folder
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.hidden = [name for node in graph.node for name in _hidden(node)]

    def rectifiers(self) -> list[_Rectifier]:
        taken: set[str] = set()
        found = []
        for node in self.graph.node:
            if node.domain not in ("", "ai.onnx") or node.op_type not in _KINDS:
                continue
            numbers = self._slope_and_ceiling(node)
            if numbers is None:
                continue
            name = next(
                name for name in (node.name, node.output[0], f"{node.output[0]}:0") if name and name not in taken
            )
            taken.add(name)
            found.append(_Rectifier(name, node.op_type, node.input[0], *numbers, self._axis(node.input[0])))
        return found

    def _slope_and_ceiling(self, node: Any) -> tuple[NDArray[np.float64], float] | None:
        """Return slope and ceiling of a rectifier; None where the node is not one."""
        zero = np.zeros(())
        if node.op_type == "Relu":
            return zero, math.inf
        if node.op_type == "LeakyRelu":
            return np.array(float(_attribute(node, "alpha", 0.01))), math.inf
        if node.op_type == "PRelu":
            slope = self.constant(node.input[1])
            if slope is None:
                self.hidden.append(f"{node.name or node.output[0]} (its slopes are computed)")
                return None
            return slope.astype(np.float64), math.inf
        low, high = self._bound(node, 1, "min"), self._bound(node, 2, "max")
        if low != 0.0 or high is None or high <= 0.0 or self._gate(node):
            return None
        return zero, high

    def _bound(self, node: Any, position: int, attribute: str) -> float | None:
        """Return a bound of a Clip: an attribute before opset 11, an input since. Infinity where there is none."""
        if len(node.input) > position and node.input[position]:
            constant = self.constant(node.input[position])
            return None if constant is None else float(constant.reshape(-1)[0])
        limit = 3.4e38  # older exporters write the largest float32 for none
        bound = float(_attribute(node, attribute, -math.inf if attribute == "min" else math.inf))
        return math.inf if bound >= limit else bound

    def _gate(self, node: Any) -> bool:
        """Whether this is the Clip(x + 3, 0, 6) of hard-swish or hard-sigmoid."""
        producer = self.producers.get(node.input[0])
        if producer is None or producer.op_type != "Add":
            return False
        constants = [self.constant(name) for name in producer.input]
        return any(value is not None and value.size == 1 and float(value.reshape(-1)[0]) == 3.0 for value in constants)

    def constant(self, name: str) -> NDArray[Any] | None:
        tensor, producer = self.initializers.get(name), self.producers.get(name)
        if tensor is None and producer is not None:
            if producer.op_type in ("Identity", "Cast"):
                return self.constant(producer.input[0])
            if producer.op_type == "Constant" and producer.attribute:
                attribute = producer.attribute[0]
                if attribute.name != "value":
                    return np.asarray(_value(attribute))
                tensor = attribute.t
        if tensor is None:
            return None
        to_array = importlib.import_module("onnx.numpy_helper").to_array
        return np.asarray(to_array(tensor, base_dir=str(self.folder)))

    def _axis(self, tensor: str) -> int:
        """Find the axis of the units of a tensor; the channels where the graph leaves it open."""
        axis = find_unit_axis(tensor, self._producer)
        return CHANNELS if axis is None else axis

    def _producer(self, tensor: str) -> Producer | None:
        node = self.producers.get(tensor)
        if node is None:
            return None
        if node.op_type == "Transpose":
            order = list(_attribute(node, "perm", []))
            return Producer(inputs=node.input[:1], order=order) if order else None
        return producer_from_tables(node.op_type, node.input, _UNIT_AXES, _PASSING)


def _hidden(node: Any) -> Iterator[str]:
    """Yield the names of rectifiers within the branches of a node."""
    for graph in _branches(node):
        for inner in graph.node:
            if inner.op_type in _KINDS[:3]:
                yield inner.name or inner.output[0]
            yield from _hidden(inner)


def _needed(graph: Any, tensors: list[str]) -> list[Any]:
    """Return the nodes that these tensors depend on, in order."""
    wanted, kept = set(tensors), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(_uses(node))
            kept.append(node)
    return kept[::-1]


def _uses(node: Any) -> Iterator[str]:
    """Yield the tensors that a node takes, those used within its branches too."""
    yield from node.input
    for graph in _branches(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from _uses(inner)


def _branches(node: Any) -> list[Any]:
    return [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]


def _attribute(node: Any, name: str, default: Any) -> Any:
    return next((_value(attribute) for attribute in node.attribute if attribute.name == name), default)


def _value(attribute: Any) -> Any:
    return importlib.import_module("onnx.helper").get_attribute_value(attribute)
