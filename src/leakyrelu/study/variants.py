"""The activations that a study compares, and the sources of their slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from leakyrelu import slope
from leakyrelu.slope.network import Activation, BatchNorm, Input, Linear, Network, Sum
from leakyrelu.study.settings import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from leakyrelu.slope.network import Node

ETA = 0.9  # similarity of unrelated inputs that a slope by formula allows: the default of `tailored`
_ZETA = 1.5  # slope of the similarity map at 1: the default of `centered`


@dataclass(frozen=True)
class Row:
    """One activation of the comparison.

    Attributes
    ----------
    name
        A short, unique name.
    slope
        Slope for x <= 0; of PReLU, the slope that training starts from.
    source
        The source of the slope, in words.
    kind
        The module that computes it.
    """

    name: str
    slope: float
    source: str
    kind: Literal["relu", "leaky", "centered", "prelu"] = "leaky"

    @property
    def scale(self) -> float:
        """Factor of the orthogonal matrices after this activation that keeps the second moment of the signal at 1."""
        return 1.0 if self.kind == "centered" else slope.gain(self.slope)


def choose_rows(depth: int, network: str = "mlp") -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Return the rows for this network, and a line for each formula that names no slope for it (left out)."""
    rows = [
        Row("ReLU", 0.0, "no slope", "relu"),
        Row("Leaky 0.001", 0.001, "nearly ReLU, for comparison"),
        Row("Leaky 0.01", 0.01, "default of PyTorch"),
        Row("Leaky 0.2", 0.2, "default of TensorFlow's tf.nn.leaky_relu"),
    ]
    left_out = []
    try:
        rows.append(Row("Tailored", *formula_slope(depth, network)))
    except ValueError as error:
        left_out.append(f"Tailored is left out: {error}")
    try:
        rows.append(Row("Centered", *centered_slope(depth, network), "centered"))
    except ValueError as error:
        left_out.append(f"Centered is left out: {error}")
    rows.append(Row("PReLU", 0.25, "learned, one a layer, from PyTorch's default of 0.25", "prelu"))
    return tuple(rows), tuple(left_out)


def formula_slope(depth: int, network: str = "mlp") -> tuple[float, str]:
    """Return the slope that keeps unrelated inputs apart in a network of the study, and its source in words.

    It is the slope with which the similarity of unrelated inputs after the last activation is 0.9.

    Raises
    ------
    ValueError
        No slope is named: even ReLU keeps similarity below that. The message says why.
    """
    if not ARCHITECTURES[network].residual:
        return slope.tailored(depth), f"tailored({depth}), eta = {ETA:g}"
    reached, blocks = similarity(0.0, depth, network), (depth - 1) // 2
    if network == "resnet-bn":
        raise ValueError(
            f"none: any slope keeps inputs apart, since batch normalization subtracts the mean that makes them alike "
            f"(even under ReLU similarity stays at {reached:.2f})"
        )
    if reached < ETA:
        raise ValueError(
            f"no slope of at least 0 gives eta = {ETA:g} in {blocks} blocks: even ReLU (slope 0) brings unrelated "
            f"inputs only to {reached:.4f}; use a greater depth"
        )
    chosen = _root(lambda alpha: ETA - similarity(alpha, depth, network), 0.0, 1.0)
    return chosen, f"similarity of unrelated inputs {ETA:g} after {blocks} blocks x + f(x)"


def similarity(alpha: float, depth: int, network: str = "mlp") -> float:
    """Return the cosine similarity of unrelated inputs after the last activation, at initialization.

    In a plain network that is `slope.correlation`, in the others what `leakyrelu.slope.network` makes of their graph.
    """
    if not ARCHITECTURES[network].residual:
        return slope.correlation(alpha, 0.0, depth)
    return float(_graph(depth, network).similarities(alpha)[-1])


def _graph(depth: int, network: str) -> Network:
    """Return the graph of a residual network, ``x + f(x)`` with an activation in front of each layer of f."""
    nodes: list[Node] = [Input(), Linear(inputs=(0,))]

    def behind(kind: type[Node], *inputs: int, **attributes: Any) -> int:
        nodes.append(kind(inputs=inputs, **attributes))
        return len(nodes) - 1

    def activated(x: int) -> int:
        if network == "resnet-bn":
            x = behind(BatchNorm, x, batch=_LARGE)
        return behind(Activation, x)

    x = 1
    for _ in range((depth - 1) // 2):
        branch = behind(Linear, activated(x))
        x = behind(Sum, x, behind(Linear, activated(branch)))
    activated(x)
    return Network(nodes)


_LARGE = 2**20  # samples in a batch, whose mean is that of all data


def centered_slope(depth: int, network: str = "mlp") -> tuple[float, str]:
    """Return the slope of the centered Leaky ReLU in a network of the study, and its source in words.

    A residual block maps the slope s of the similarity map at 1 of an activation to ``(1 + s**2) / 2``; the whole
    network, an activation behind its blocks, should have 1.5, as `slope.centered` asks of plain networks.

    Raises
    ------
    ValueError
        No slope of at least 0 bends so much.
    """
    if not ARCHITECTURES[network].residual:
        return slope.centered(depth), f"centered({depth}), zeta = {_ZETA:g}"
    blocks = (depth - 1) // 2
    each = _root(lambda s: ((1 + s**2) / 2) ** blocks * s - _ZETA, 1.0, _ZETA)
    return slope.centered(1, each), f"zeta = {_ZETA:g} after {blocks} blocks x + f(x)"


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where an increasing function, below 0 at one end and not at the other, passes 0: by halving."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high
