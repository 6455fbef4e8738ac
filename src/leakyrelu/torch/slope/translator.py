"""Translation of a recorded pass into nodes, by rules for the functions that were called."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from leakyrelu.slope.network import Activation, Constant, Function, Input, Unknown
from leakyrelu.torch.graph.calls import Call, Value
from leakyrelu.torch.slope.recorder import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from leakyrelu.slope.network import Node
    from leakyrelu.torch.slope.recorder import Pass

    Rule = Callable[["Translator", Call], int | None]


class Translation(NamedTuple):
    """The nodes of a pass.

    Attributes
    ----------
    nodes
        In the order of the calls.
    assumed, unknown
        What is only approximately true, and the operations without a rule: number of the node, and a text.
    widths
        Units in front of each activation, by the number of its node, where they are known.
    weights
        Name of the weight of each `Linear` node, by its number.
    """

    nodes: list[Node]
    assumed: list[tuple[int, str]]
    unknown: list[tuple[int, str]]
    widths: dict[int, int]
    weights: dict[int, str]


class Translator:
    """Makes nodes of calls. With `exact_gain` layers have the exact gain and no bias, else the weights they have."""

    def __init__(self, recorded: Pass, exact_gain: bool, rules: Mapping[str, Rule]) -> None:
        self.recorded = recorded
        self.exact_gain = exact_gain
        self.rules = rules
        self.nodes: list[Node] = []
        self.assumed: list[tuple[int, str]] = []
        self.unknown: list[tuple[int, str]] = []
        self.widths: dict[int, int] = {}
        self.weights: dict[int, str] = {}
        self._made: dict[int, int] = {}
        self._sources: list[frozenset[Any]] = []
        self.scores: dict[int, int] = {}  # node of the scores of a softmax, by identity of what has its result

    def translate(self) -> Translation:
        """Translate all calls."""
        for call in self.recorded.calls:
            if call.is_weight:
                continue
            if not self.recorded.is_number.get(id(call), True):
                self._made[id(call)] = self._unknown(call, "its result is not made of real floating-point numbers")
                continue
            rule = self.rules.get(call.name)
            node: int | None
            try:
                if id(call) in self.recorded.rectifiers:
                    node = self._rectify(call)
                elif rule is not None:
                    node = rule(self, call)
                else:
                    node = None
            except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError):
                node = None
            self._made[id(call)] = self._unknown(call) if node is None else node
        return Translation(self.nodes, self.assumed, self.unknown, self.widths, self.weights)

    # What rules are made of.

    def add(self, node: Node, sources: Iterable[Any] | None = None) -> int:
        """Append a node; its sources are those of its inputs where it makes none of its own."""
        if sources is None:
            sources = frozenset().union(*(self._sources[each] for each in node.inputs))
        self.nodes.append(node)
        self._sources.append(frozenset(sources))
        return len(self.nodes) - 1

    def node_of(self, value: Call | Value) -> int:
        """Return the node of a tensor that depends on the inputs, or that of a constant."""
        if id(value) in self._made:
            return self._made[id(value)]
        if value.is_weight:
            moments = self.moments(value)
            number = self.add(Constant(square=moments.square, mean=moments.mean), {id(value)})
        else:
            number = self.add(Input(name="input"), {id(value)})
        self._made[id(value)] = number
        return number

    def data(self, call: Call) -> list[Call | Value]:
        """Return the arguments that depend on the inputs of the model."""
        return [each for each in call.inputs if not each.is_weight]

    def first(self, call: Call) -> int:
        """Return the node of the first of them."""
        return self.node_of(self.data(call)[0])

    def moments(self, value: Any) -> Moments:
        """Return the moments of a weight, or of a number."""
        if isinstance(value, int | float):
            return Moments(float(value), float(value) ** 2)
        return self.recorded.moments[id(value)]

    def place(self, call: Call) -> str:
        """Return where a call is made."""
        return self.recorded.places.get(id(call), "") or "the model"

    def assume(self, number: int, text: str) -> int:
        """Note that a node is an approximation."""
        self.assumed.append((number, text))
        return number

    def independent_sum(self, call: Call, node: Node) -> int:
        """Append a sum or product, and note where its sides are not independent."""
        sides = [self._sources[each] for each in node.inputs]
        number = self.add(node)
        if any(one & two for place, one in enumerate(sides) for two in sides[:place]):
            self.assume(number, f"{call.name} in {self.place(call)}: its sides share weights or inputs")
        return number

    def _unknown(self, call: Call, why: str = "") -> int:
        inputs = tuple(self.node_of(each) for each in self.data(call)[:1])
        text = f"{call.name} in {self.place(call)}" + (f": {why}" if why else "")
        number = self.add(Unknown(inputs=inputs, name=text)) if inputs else self.add(Input(name=text), {id(call)})
        self.unknown.append((number, text))
        return number

    def _rectify(self, call: Call) -> int:
        name, rectifier, is_open = self.recorded.rectifiers[id(call)]
        x = self.first(call)
        node: Node
        if is_open:
            node = Activation(inputs=(x,), name=name)
        elif rectifier.rest is None:
            slope = rectifier.slope
            number = float(slope.double().mean()) if isinstance(slope, torch.Tensor) else slope
            node = Activation(inputs=(x,), name=name, slope=number)
        else:
            node = Function(inputs=(x,), name=name, function=as_numpy(call), is_activation=True)
        number = self.add(node)
        layout = call.inputs[0].layout
        if layout is not None:
            units = math.prod(size for factors in layout for size, is_unit in factors if is_unit)
            self.widths[number] = units
        return number


def as_numpy(call: Call) -> Callable[[Any], Any]:
    """Return a function of one tensor, with its other arguments as they were, for arrays of float64."""
    rest = call.args[1:]
    if any(isinstance(each, Call | Value) for each in (*rest, *call.kwargs.values())):
        raise TypeError("other arguments are tensors")
    options = {key: value for key, value in call.kwargs.items() if key not in ("input", "inplace", "out")}

    def apply(values: Any) -> Any:
        return call.function(torch.from_numpy(values.copy()), *rest, **options).numpy()

    return apply
