"""A network as a list of nodes: its similarities at a slope, its worst part, and the slope for a wanted one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from leakyrelu.slope.network.activations import Activation, Function
from leakyrelu.slope.network.layers import Input, Product
from leakyrelu.slope.network.normalizations import BatchNorm, GroupNorm, LayerNorm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from leakyrelu.slope.network.node import Node
    from leakyrelu.slope.network.state import Floats, State


class Part(NamedTuple):
    """A part of a network, from one node to another, and the similarity that it makes of unrelated inputs.

    `start` is None for the whole network up to `end`.
    """

    start: int | None
    end: int
    similarity: float


@dataclass(frozen=True)
class Network:
    """A network in evaluation order.

    Its numbers are random at initialization: Gaussian in front of each activation, which holds for wide layers with
    random weights.

    Parameters
    ----------
    nodes
        Objects of `leakyrelu.slope.network`; each refers to its inputs by their numbers in this list.

    Raises
    ------
    ValueError
        If a node takes an input that is not earlier in the list, or nothing is an `Input`.

    Examples
    --------
    Twenty layers of a linear layer and a Leaky ReLU; the slope is that of ``leakyrelu.slope.tailored(20)``:

    >>> from leakyrelu.slope.network import Activation, Input, Linear, Network
    >>> nodes = [Input()]
    >>> for layer in range(20):
    ...     nodes += [Linear(inputs=(2 * layer,)), Activation(inputs=(2 * layer + 1,))]
    >>> round(Network(nodes).solve(0.9), 4)
    0.1814
    """

    nodes: Sequence[Node]

    def __post_init__(self) -> None:
        for number, node in enumerate(self.nodes):
            late = [each for each in node.inputs if not 0 <= each < number]
            if late:
                raise ValueError(
                    f"node {number} ({node.name or type(node).__name__}) takes node {late[0]}, which is not earlier in "
                    "the list; put each node behind its inputs"
                )
        if not any(isinstance(node, Input) for node in self.nodes):
            raise ValueError("no node is an Input, so nothing can be alike; begin the list with Input()")

    @property
    def ends(self) -> list[int]:
        """The activations that an input reaches, where a part may end; not those that reach nothing but gates."""
        found = [
            number
            for number in self._reached()
            if isinstance(node := self.nodes[number], Activation) or (isinstance(node, Function) and node.is_activation)
        ]
        carried = self._carried()
        return [number for number in found if number in carried] or found

    def _carried(self) -> set[int]:
        """Return the nodes with a path to an output that does not enter a product as a gate."""
        taken = {each for node in self.nodes for each in node.inputs}
        carried = {number for number in range(len(self.nodes)) if number not in taken}
        for number in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[number]
            if number in carried:
                gates = node.gates if isinstance(node, Product) else ()
                carried.update(each for place, each in enumerate(node.inputs) if place not in gates)
        return carried

    def similarities(self, slope: float) -> Floats:
        """Return the similarity of unrelated inputs at each node, as the whole network makes it."""
        return np.array([float(state.c[0]) for state in self._states(slope, [])])

    def states(self, slope: float) -> list[State]:
        """Return the state of each node, for the whole network alone."""
        return self._states(slope, [])

    def worst(self, slope: float) -> Part | None:
        """Return the part that makes unrelated inputs most alike; None without an activation.

        Parts begin at the inputs or at any node, with the size that its numbers have there, mean 0, c = t = 0 and the
        network's own s. A node belongs to a part if all its inputs do, or are constants (Martens et al., "Rapid
        training of deep neural networks without skip connections or normalization layers using Deep Kernel Shaping",
        2021). Those that begin at a node of one input need no look, unless it subtracts a mean: nothing is lost if they
        begin at that input, since no such node makes unrelated inputs less alike than 0.
        """
        ends = self.ends
        if not ends:
            return None
        starts = [
            number
            for number in self._reached()
            if len((node := self.nodes[number]).inputs) > 1 or isinstance(node, BatchNorm | GroupNorm | LayerNorm)
        ]
        states = self._states(slope, starts)
        table = np.array([states[end].c for end in ends])
        table[np.isnan(table)] = -np.inf
        row, column = np.unravel_index(int(table.argmax()), table.shape)
        return Part(None if column == 0 else starts[column - 1], ends[row], float(table[row, column]))

    def solve(self, eta: float = 0.9) -> float | None:
        """Return the slope in [0, 1] at which the worst part makes a similarity of eta.

        None where even ReLU stays below eta, or where a straight line is above it: no slope makes the difference.
        """
        if not 0.0 < eta < 1.0:
            raise ValueError(f"eta = {eta!r} is no similarity to aim at; it must lie above 0 and below 1")

        def beyond(slope: float) -> float:
            part = self.worst(slope)
            return -eta if part is None else part.similarity - eta

        low, high = 0.0, 1.0
        at_low, at_high = beyond(low), beyond(high)
        if at_low < 0.0 or at_high > 0.0 or at_low == at_high:
            return None
        # False position with the Illinois rule, which halves the value at an end that stays: each step is one pass.
        kept = 0
        for _ in range(100):
            middle = (low * at_high - high * at_low) / (at_high - at_low)
            at = beyond(middle)
            if abs(at) < 1e-12 or high - low < 1e-12:
                break
            if at > 0.0:
                low, at_low, at_high = middle, at, at_high / 2.0 if kept == 1 else at_high
                kept = 1
            else:
                high, at_high, at_low = middle, at, at_low / 2.0 if kept == -1 else at_low
                kept = -1
        return middle

    def _reached(self) -> list[int]:
        """Return the nodes that an input reaches: at the others, constants alone are, and nothing is unrelated."""
        reached: set[int] = set()
        for number, node in enumerate(self.nodes):
            if isinstance(node, Input) or not reached.isdisjoint(node.inputs):
                reached.add(number)
        return sorted(reached)

    def _states(self, slope: float, starts: list[int]) -> list[State]:
        """Propagate; entry 0 of each array is the whole network, the others the parts that begin at `starts`."""
        if not math.isfinite(slope):
            raise ValueError(f"slope = {slope!r} is not a finite number")
        columns = {start: number + 1 for number, start in enumerate(starts)}
        width = 1 + len(starts)
        states: list[State] = []
        for number, node in enumerate(self.nodes):
            if node.inputs:
                state = _applied(node, [states[each] for each in node.inputs], slope)
            else:
                state = _widened(node.apply([], slope), width, is_constant=not isinstance(node, Input))
            if (column := columns.get(number)) is not None:
                state = _started(state, column)
            states.append(state)
        return states


def _widened(state: State, width: int, is_constant: bool) -> State:
    """Give a node without inputs its entries: a constant is part of all, an input of the whole network alone."""
    return state.mapped(lambda each: np.full(width, each[0]) if is_constant else _scattered(each, np.arange(1), width))


def _applied(node: Node, inputs: list[State], slope: float) -> State:
    """Apply a node to the parts that all its inputs belong to; the others have no value, NaN."""
    width = len(inputs[0].q)
    known = np.flatnonzero(~np.isnan(sum(x.q for x in inputs)))
    if len(known) == width:
        return node.apply(inputs, slope)
    result = node.apply([x.mapped(lambda each: each[known]) for x in inputs], slope)
    return result.mapped(lambda each: _scattered(each, known, width))


def _scattered(values: Floats, places: NDArray[np.intp], width: int) -> Floats:
    array = np.full(width, np.nan)
    array[places] = values
    return array


def _started(state: State, column: int) -> State:
    """Begin a part at a node: unrelated inputs of the size that its numbers have, off by nothing."""
    arrays = [each.copy() for each in (state.q, state.m, *state.similarities)]
    for array, first in zip(arrays, (state.q[0], 0.0, 0.0, state.s[0], 0.0), strict=True):
        array[column] = first
    # What is in front of an activation knows no part that begins behind it.
    return replace(state, q=arrays[0], m=arrays[1], c=arrays[2], s=arrays[3], t=arrays[4])
