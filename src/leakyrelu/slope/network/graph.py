"""A network as a list of nodes: its similarities at a slope, its worst part, and the slope for a wanted one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from leakyrelu.slope.network.activations import Activation, Function
from leakyrelu.slope.network.layers import Identity, Input, Product
from leakyrelu.slope.network.state import State, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.slope.network.node import Node
    from leakyrelu.slope.network.state import Floats


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
    Ten layers of a linear layer and a Leaky ReLU; the slope is that of ``leakyrelu.slope.tailored(10)``:

    >>> from leakyrelu.slope.network import Activation, Input, Linear, Network
    >>> nodes = [Input()]
    >>> for layer in range(10):
    ...     nodes += [Linear(inputs=(2 * layer,)), Activation(inputs=(2 * layer + 1,))]
    >>> round(Network(nodes).solve(0.9), 4)
    0.1689
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
        """The activations where a part may end: those that reach more than gates, or all if none does."""
        found = [
            number
            for number, node in enumerate(self.nodes)
            if isinstance(node, Activation) or (isinstance(node, Function) and node.is_activation)
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
        2021).
        """
        ends = self.ends
        if not ends:
            return None
        starts = [number for number, node in enumerate(self.nodes) if not isinstance(node, Input | Identity)]
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
        if at_low < 0.0 or at_high > 0.0:
            return None
        # False position with the Illinois rule: each step is one pass over the network.
        for _ in range(100):
            middle = (low * at_high - high * at_low) / (at_high - at_low)
            at = beyond(middle)
            if abs(at) < 1e-12 or high - low < 1e-12:
                return middle
            if at > 0.0:
                low, at_low, at_high = middle, at, at_high / 2.0
            else:
                high, at_high, at_low = middle, at, at_low / 2.0
        return middle

    def _states(self, slope: float, starts: list[int]) -> list[State]:
        """Propagate; entry 0 of each array is the whole network, the others the parts that begin at `starts`."""
        if not math.isfinite(slope):
            raise ValueError(f"slope = {slope!r} is not a finite number")
        columns = {start: number + 1 for number, start in enumerate(starts)}
        width = 1 + len(starts)
        states: list[State] = []
        for number, node in enumerate(self.nodes):
            state = node.apply([states[each] for each in node.inputs], slope)
            if not node.inputs:
                state = _widened(state, width, is_constant=not isinstance(node, Input))
            if (column := columns.get(number)) is not None:
                state = _started(state, column)
            states.append(state)
        return states


def _widened(state: State, width: int, is_constant: bool) -> State:
    """Give a node without inputs its entries: a constant is part of all, an input of the whole network alone."""
    arrays = [np.full(width, each[0] if is_constant else np.nan) for each in (state.q, state.m, *state.similarities)]
    for array, each in zip(arrays, (state.q, state.m, *state.similarities), strict=True):
        array[0] = each[0]
    return state_of(arrays[0], arrays[1], arrays[2:], state.scale)


def _started(state: State, column: int) -> State:
    """Begin a part at a node: unrelated inputs of the size that its numbers have, off by nothing."""
    arrays = [each.copy() for each in (state.q, state.m, *state.similarities)]
    for array, first in zip(arrays, (state.q[0], 0.0, 0.0, state.s[0], 0.0), strict=True):
        array[column] = first
    # What is in front of an activation knows no part that begins behind it.
    return replace(state, q=arrays[0], m=arrays[1], c=arrays[2], s=arrays[3], t=arrays[4])
