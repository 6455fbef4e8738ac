"""What the kinds of nodes have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leakyrelu.slope.network.state import State


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation of a network.

    Attributes
    ----------
    inputs
        Numbers of the nodes whose outputs it takes, all of them earlier in the list.
    name
        What it is called in an answer.
    """

    inputs: tuple[int, ...] = ()
    name: str = ""

    def apply(self, states: list[State], slope: float) -> State:
        """Return the state of its output, from those of its inputs."""
        raise NotImplementedError
