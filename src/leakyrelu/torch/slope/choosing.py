"""Choice of the slope of a network, from one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leakyrelu._text import listed
from leakyrelu.slope.network import (
    Activation,
    BatchNorm,
    Constant,
    Function,
    GroupNorm,
    LayerNorm,
    MaxPool,
    Network,
    RMSNorm,
)
from leakyrelu.torch._checks import require_module
from leakyrelu.torch.diagnosis.model_report import NoRectifierError
from leakyrelu.torch.slope.answer import USUAL, LayerSimilarity, SlopeChoice, WorstPart
from leakyrelu.torch.slope.recorder import record
from leakyrelu.torch.slope.translation import translate

if TYPE_CHECKING:
    from torch import nn

    from leakyrelu.slope.network import Part
    from leakyrelu.torch.slope.translator import Translation

__all__ = ["choose_slope"]

_NORMALIZATIONS = (BatchNorm, GroupNorm, LayerNorm, RMSNorm)

_WIDE = 64
"""Units from which on nothing is said about width.

`make bench-slope` measures CNNs of 20 layers of 256, 64 and 16 channels; random dense networks of 10 to 100 layers of
16, 32 and 64 units were off by at most .21, .11 and .06 at any activation.
"""


def choose_slope(model: nn.Module, *inputs: Any, eta: float = 0.9, training: bool | None = None) -> SlopeChoice:
    """Choose the slope at which no part of a network makes unrelated inputs more alike than eta.

    For each node of the network's graph, second moment, mean and cosine similarities at initialization follow from
    those of its inputs (`leakyrelu.slope.network`). The slope a in [0, 1] is the solution of
    ``max over parts of similarity(part, a) = eta``, where a part begins with unrelated inputs at any node and ends at
    an activation (the maximal C value of Zhang, Botev and Martens, "Deep Learning without Shortcuts", ICLR 2022). The
    layers are taken to have the exact gain of each slope and no biases, and plain residual branches to be scaled, as
    `initialize` does; what they have at present is compared. It keeps inputs apart; it does not promise the best
    training.

    Parameters
    ----------
    model
        Any module whose ReLUs and Leaky ReLUs are to have one slope. It runs once, without gradients; buffers, modes
        and the generators of random numbers are left as they were.
    *inputs
        Arguments of the model, of the usual shapes. Their numbers do not matter, their shapes do: the batch for batch
        norm, the places for padding and pooling.
    eta
        Largest similarity, above 0 and below 1; 0.9 is what the paper recommends.
    training
        Whether batch norm takes the statistics of the batch and dropout drops; None for the mode that the model is in.

    Returns
    -------
    SlopeChoice
        `.slope` is a number, or None where the slope does not matter; `.reason` says why.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If eta is not between 0 and 1, or nothing whose slope can be chosen was called (`NoRectifierError`).

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import choose_slope, initialize, replace_relu
    >>> layers = [layer for _ in range(30) for layer in (nn.Linear(256, 256), nn.ReLU())]
    >>> model = nn.Sequential(*layers)
    >>> choice = choose_slope(model, torch.randn(8, 256))
    >>> round(choice.slope, 3)
    0.303
    >>> _ = replace_relu(model, choice.slope)
    >>> _ = initialize(model, choice.slope, torch.randn(8, 256))
    >>> choose_slope(model, torch.randn(8, 256)).reason
    '0.303: with it no part of the network makes unrelated inputs more alike than 0.9 (0.971 at 0.01)'
    """
    require_module(model)
    if not (isinstance(eta, int | float) and 0.0 < eta < 1.0):
        raise ValueError(
            f"eta = {eta!r} is no similarity to aim at; it must lie above 0 and below 1, and 0.9 is recommended"
        )
    recorded = record(model, inputs, training)
    translation = translate(recorded, exact_gain=True)
    network = Network(translation.nodes)
    if not any(isinstance(node, Activation) and node.slope is None for node in network.nodes):
        raise NoRectifierError(
            f"{type(model).__name__} called no ReLU or Leaky ReLU on these inputs, so there is no slope to choose; "
            "activations of other kinds stay as they are"
        )
    slope = network.solve(eta)
    present = Network(translate(recorded, exact_gain=False).nodes)
    return _answer(network, present, translation, slope, eta)


def _answer(
    network: Network, present: Network, translation: Translation, slope: float | None, eta: float
) -> SlopeChoice:
    at, ends = USUAL if slope is None else slope, network.ends
    parts = {a: part for a in (at, USUAL, 0.0, 1.0) if (part := network.worst(a)) is not None}
    chosen, usual, relu = (network.similarities(a)[ends].tolist() for a in (at, USUAL, 0.0))
    last, straight = (float(present.similarities(a)[ends[-1]]) for a in (at, 1.0))
    needed = _ancestors(network, ends)
    is_normalized = any(isinstance(network.nodes[number], _NORMALIZATIONS) for number in needed)
    reason, remarks = _reason(slope, eta, parts, network, is_normalized), []
    if not is_normalized and parts[1.0].similarity <= eta < straight:
        reason = (
            f"the weights, as they are, bring every pair to {straight:.3f} at any slope: initialize them with the gain "
            f"first (initialize(model, {at:.3f}, *inputs)); then {reason}"
        )
    elif last > chosen[-1] + _APART:
        remarks.append(
            f"With the weights as they are, the last activation is at {last:.3f} instead of {chosen[-1]:.3f}: "
            "initialize sets the gain."
        )
    units = [translation.widths.get(end) for end in ends]
    narrowest = min((each for each in units if each is not None), default=_WIDE)
    if not is_normalized and narrowest < _WIDE:
        remarks.append(
            f"The formula is approximate here: in layers of {narrowest} units the similarity may be off by about "
            f"{4 / narrowest:.2f}."
        )
    names = [network.nodes[end].name for end in ends]
    return SlopeChoice(
        slope=slope,
        reason=reason,
        layers=tuple(LayerSimilarity(*each) for each in zip(names, chosen, usual, relu, units, strict=True)),
        worst=WorstPart(_start(network, parts[at], "input"), network.nodes[parts[at].end].name, parts[at].similarity),
        present=last,
        assumed=tuple(text for number, text in translation.assumed if number in needed),
        unknown=tuple(text for number, text in translation.unknown if number in needed),
        remarks=tuple(remarks),
        eta=eta,
    )


_APART = 0.02  # of similarities that are worth a remark


def _start(network: Network, part: Part, whole: str) -> str:
    if part.start is None:
        return whole
    node = network.nodes[part.start]
    return node.name or type(node).__name__


def _reason(slope: float | None, eta: float, parts: dict[float, Part], network: Network, is_normalized: bool) -> str:
    if slope is not None:
        return (
            f"{slope:.3f}: with it no part of the network makes unrelated inputs more alike than {eta:g} "
            f"({parts[USUAL].similarity:.3f} at {USUAL})"
        )
    if parts[0.0].similarity < eta:
        because = "normalization keeps inputs apart" if is_normalized else "so few layers bring them no closer"
        return f"keep {USUAL}: even under ReLU similarity stays at {parts[0.0].similarity:.2f}, because {because}"
    part = parts[1.0]
    between = [network.nodes[number] for number in _ancestors(network, [part.end]) if number > (part.start or 0)]
    causes = [text for kind, text in _SHARED.items() if any(isinstance(node, kind) for node in between)]
    return (
        f"no slope: even a straight line brings unrelated inputs to {part.similarity:.3f} between "
        f"{_start(network, part, 'the input')} and {network.nodes[part.end].name}, by "
        f"{listed(causes) or 'what the inputs share there'}"
    )


_SHARED = {MaxPool: "max pooling", Function: "activations of other kinds", Constant: "learned constants"}
"""What makes unrelated inputs alike at any slope."""


def _ancestors(network: Network, ends: list[int]) -> set[int]:
    """Return the nodes that an activation depends on."""
    needed = set(ends)
    for number in range(len(network.nodes) - 1, -1, -1):
        if number in needed:
            needed.update(network.nodes[number].inputs)
    return needed
