"""The rules that derive findings from the numbers of a census, and their thresholds, each with its reason.

The thresholds are conservative: what is not worth an action is not a finding, and where too few inputs were seen to
know, the finding is that more are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from leakyrelu._text import counted, few
from leakyrelu.diagnosis.finding import SEVERITIES, Finding
from leakyrelu.slope import centered, tailored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer

ENOUGH: Final = 300
"""Samples a layer must have seen before silence means something: of as many, p < 3/300 = 1 % at 95 %.

Samples are entries of the batch axis, since the positions of one image are not independent; inputs, where those were
not counted.
"""
MOST: Final = 0.5
"""Share of a layer's units, silent or always on, from which most of the layer is gone."""
MANY: Final = 0.1
"""Share of a layer's units from which silent units are more than isolated cases; below, they are only a note."""
LINEAR: Final = 0.25
"""Share of a layer's units always on that is worth a note: a quarter of it is linear on the data."""
RARE: Final = 0.01
"""A unit positive this seldom or less gets a hundredth of the gradients that reach the layer."""
ALIKE: Final = 0.9
"""Mean cosine similarity of the outputs of two samples from which a layer hardly separates samples."""
FAR: Final = 3.0
"""Standard deviations between a unit's mean input and zero from which its bias counts as drifted."""

_REVIVE = "Sokar et al., The Dormant Neuron Phenomenon in Deep RL, ICML 2023, arXiv:2302.12902"
_DYING = "Lu et al., Dying ReLU and Initialization, 2020, arXiv:1903.06733"
_LEAKY = "Maas, Hannun, Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013"
_TAILORED = "Zhang, Botev, Martens, Deep Learning without Shortcuts, ICLR 2022, arXiv:2203.08120"
_RATE = "Stanford CS231n, Neural Networks Part 1, cs231n.github.io/neural-networks-1"
_HE = "He et al., Delving Deep into Rectifiers, ICCV 2015, arXiv:1502.01852"
_REGIONS = "Montufar et al., On the Number of Linear Regions, NeurIPS 2014, arXiv:1402.1869"
_SATURATED = "Glorot, Bengio, Understanding the Difficulty of Training Deep Networks, AISTATS 2010"
_EXPLODING = "Pascanu, Mikolov, Bengio, On the Difficulty of Training Recurrent Networks, ICML 2013, arXiv:1211.5063"
_THREE = "Hanley, Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, JAMA 249, 1983"

_TAILORED_FROM = 13  # the least depth at which a ReLU network makes unrelated inputs 0.9 alike


def find(census: Census) -> tuple[Finding, ...]:
    """Return what is worth an action, the worst first; a single finding of severity "healthy" where nothing is.

    Examples
    --------
    >>> from leakyrelu.diagnosis.census import Census
    >>> from leakyrelu.diagnosis.counts import Counts
    >>> from leakyrelu.diagnosis.layer import Layer
    >>> counts = Counts(
    ...     samples=1000, calls=1, positive=[0, 480], nan=[0, 0], saturated=[0, 0], outputs=[1000, 1000],
    ...     mean=[0.0, 0.4], m2=[0.0, 340.0], relu_sum=[0.0, 400.0],
    ... )
    >>> (finding,) = find(Census([Layer("body.relu", "ReLU", 0.0, counts)]))
    >>> finding.severity, finding.title, finding.units
    ('critical', 'Layer body.relu: 1 of 2 units silent', (0,))
    """
    if not census.layers:
        return ()
    found = [*_network(census)]
    for layer in census.layers:
        found += _layer(layer, len(census.layers))
    if not found:
        found.append(_healthy(census) if census.units else _nothing(census))
    sizes = {layer.name: layer.units for layer in census.layers}

    def rank(finding: Finding) -> tuple[int, float]:
        """Order by severity, then what is about the network, then the larger share of a layer."""
        share = len(finding.units) / sizes[finding.layer] if finding.layer is not None else 2.0
        return SEVERITIES.index(finding.severity), -share

    return tuple(sorted(found, key=rank))


def slope_for(depth: int) -> tuple[float, str, str]:
    """Return the slope for a network of this many rectifiers, why that one, and its source."""
    if depth >= _TAILORED_FROM:
        slope = round(float(tailored(depth)), 4)
        return (
            slope,
            f"slope {slope}: at depth {depth} it holds the similarity of unrelated inputs at 0.9 "
            f"(leakyrelu.slope.tailored({depth}))",
            _TAILORED,
        )
    return (
        0.01,
        f"slope 0.01: {counted(depth, 'layer')} {'keeps' if depth == 1 else 'keep'} unrelated inputs apart at any "
        "slope, so the usual one is enough to let gradients through",
        _LEAKY,
    )


def _network(census: Census) -> Iterator[Finding]:
    layers = [layer for layer in census.layers if layer.units]
    short = [layer for layer in layers if _count_samples(layer) < ENOUGH]
    if short:
        by_samples = all(layer.entries is not None for layer in short)
        least = min(_count_samples(layer) if by_samples else layer.samples for layer in short)
        bound = ""
        if by_samples:
            most = f"{min(3 / max(least, 1), 1):.0%}"
            bound = f" Of a unit never positive in {counted(least, 'sample')}, p may still be up to {most}."
        yield Finding(
            "note",
            "More data first",
            None,
            (),
            f"{counted(len(short), 'layer')} of {len(layers)} saw fewer than {ENOUGH} "
            f"{'samples' if by_samples else 'inputs a unit'} (the least: {least}).{bound}",
            f"Run at least {ENOUGH} samples before calling a unit of these layers silent or always on.",
            source=_THREE,
        )
    hurt = [
        layer for layer in layers if _count_samples(layer) >= ENOUGH and len(layer.silent_units) >= MANY * layer.units
    ]
    if len(hurt) >= 3 and len(hurt) >= len(layers) / 2:
        yield Finding(
            "warning",
            f"Silent units throughout: {len(hurt)} of {len(layers)} layers",
            None,
            (),
            f"In {len(hurt)} of {len(layers)} layers at least {MANY:.0%} of the units are silent: no single layer is "
            "the cause.",
            "If they were alive at the start of training, steps were too long: train with a learning rate three to "
            "ten times smaller, or warm it up. If not, the initialization is the cause.",
            'for group in optimizer.param_groups:\n    group["lr"] /= 3',
            _RATE,
        )
    if census.unused:
        yield Finding(
            "note",
            f"{counted(len(census.unused), 'activation')} never called",
            None,
            (),
            f"Never called: {few(census.unused, 6)}.",
            "Check that the data takes the path on which they lie; nothing is known of them.",
        )


def _layer(layer: Layer, depth: int) -> Iterator[Finding]:
    if len(layer.nan_units):
        yield Finding(
            "critical",
            f"Layer {layer.name}: NaN",
            layer.name,
            tuple(layer.nan_units.tolist()),
            f"{counted(int(layer.counts.nan.sum()), 'input')} of {counted(len(layer.nan_units), 'unit')} were NaN, "
            f"of {layer.samples} each.",
            "Look for NaN in the data first, then for the step at which the weights became NaN: a smaller learning "
            "rate and clipped gradients prevent it.",
            "torch.autograd.set_detect_anomaly(True)\n"
            "# before optimizer.step()\n"
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
            _EXPLODING,
        )
    if _count_samples(layer) < ENOUGH or layer.units == 0:
        return
    yield from _silent(layer, depth)
    yield from _always_on(layer)
    yield from _rare(layer)
    yield from _saturated(layer)
    yield from _alike(layer, depth)


def _silent(layer: Layer, depth: int) -> Iterator[Finding]:
    units = layer.silent_units
    if not len(units):
        return
    share = len(units) / layer.units
    slopes = np.broadcast_to(np.asarray(layer.negative_slope), (layer.units,))[units]
    dead = bool((slopes == 0).all())
    rank = 0 if share >= MOST else 1 if share >= MANY else 2
    rank = min(rank + (not dead), 2)  # what learns, if slowly, is one step less bad
    evidence = f"were never positive in {_seen(layer)}: {_bound(layer)}."
    far = _distance(layer, units)
    drifted = far[far >= FAR]
    if dead:
        slope, why, source = slope_for(depth)
        everything = " Nothing passes the layer." if len(units) == layer.units else ""
        evidence += f"{everything} Under ReLU no gradient reaches them."
        remedy = (
            f"{'They are few: act only if their number grows with every epoch. ' if rank == 2 else ''}"
            "Reinitialize them during training; to keep it from happening again, give them a slope. "
            f"{why[0].upper()}{why[1:]}."
        )
        code, source = f"revive(model, report, optimizer)\nreplace_relu(model, {slope})", f"{_REVIVE}; {source}"
    elif len(drifted) >= max(1, len(units) / 2):
        evidence += (
            f" The inputs of {len(drifted)} of them lie {np.median(drifted):.1f} standard deviations below zero: their "
            "bias has drifted."
        )
        remedy = (
            "They learn, at a rate proportional to the slope. Set the biases to zero, or put a batch norm in front of "
            "the activation, and lower the learning rate of the biases."
        )
        code, source = "# layer: the one in front of the activation\nlayer.bias.data[list(finding.units)] = 0.0", _DYING
    else:
        remedy = (
            f"They learn, {float(slopes[slopes != 0].min()):.3g} times as fast as the others at the least. Train on; "
            "if they stay silent, a larger slope speeds it up."
        )
        code, source = "census.report().silent  # again, some epochs later", _LEAKY
    yield _units(layer, units, "silent", SEVERITIES[rank], evidence, remedy, code, source)


def _always_on(layer: Layer) -> Iterator[Finding]:
    units = layer.always_on_units
    share = len(units) / layer.units
    if share < LINEAR:
        return
    far = _distance(layer, units)
    text = ""
    if np.isfinite(far).any():
        middle = np.median(far[np.isfinite(far)])
        text = f" In the median their mean inputs lie {middle:.1f} standard deviations above zero."
    yield _units(
        layer,
        units,
        "always on",
        "warning" if share >= MOST else "note",
        f"were positive in all of {layer.samples} inputs: on this data they are linear.{text}",
        "They add nothing that the next linear layer could not compute. Check that the inputs are centered and "
        "biases start at zero; a batch norm in front of the activation brings its inputs back around zero.",
        "# layer: the one in front of the activation\n"
        f"nn.init.zeros_(layer.bias)\nnn.init.kaiming_normal_(layer.weight, a={_one_slope(layer):.4g})",
        f"{_REGIONS}; {_HE}",
    )


def _rare(layer: Layer) -> Iterator[Finding]:
    share = layer.positive_share
    units = np.flatnonzero((share > 0) & (share <= RARE))
    if len(units) < MANY * layer.units or not (np.asarray(layer.negative_slope) == 0).all():
        return
    yield _units(
        layer,
        units,
        "nearly silent",
        "note",
        f"were positive in at most {RARE:.0%} of {layer.samples} inputs, the median in {np.median(share[units]):.2%}.",
        "They may be detectors of something rare, or on their way to silence: look again some epochs later.",
        "with watch(model) as census: ...",
        _REVIVE,
    )


def _saturated(layer: Layer) -> Iterator[Finding]:
    units = layer.saturated_units
    share = len(units) / layer.units
    if not len(units):
        return
    yield _units(
        layer,
        units,
        "always at the ceiling",
        "critical" if share >= MOST else "warning" if share >= MANY else "note",
        f"were at or above {layer.ceiling:g} in all of {layer.samples} inputs: no gradient reaches them.",
        "Their inputs are too large: scale the data, lower the learning rate, or put a batch norm in front.",
        "# layer: the one in front of the activation\n"
        f"nn.init.kaiming_normal_(layer.weight, a={_one_slope(layer):.4g})",
        _SATURATED,
    )


def _alike(layer: Layer, depth: int) -> Iterator[Finding]:
    ratio = layer.mean_over_std
    similarity = 1.0 if np.isinf(ratio) else ratio**2 / (1 + ratio**2)
    if not similarity >= ALIKE or layer.units < 2:  # NaN is no finding: the layer gave out only zeros
        return
    slope = round(float(centered(max(depth, 2))), 4)
    yield Finding(
        "note",
        f"Layer {layer.name}: its outputs are nearly alike",
        layer.name,
        (),
        f"The norm of the mean outputs is {ratio:.1f} times that of their standard deviations: two samples are "
        f"{similarity:.3f} alike on average (cosine).",
        "What all samples share outweighs what separates them. Center: a batch norm in front, or the centered slope "
        f"for {counted(max(depth, 2), 'layer')}, {slope} (leakyrelu.slope.centered), for a network trained from "
        "scratch.",
        f"CenteredLeakyReLU({slope})",
        _TAILORED,
    )


def _units(
    layer: Layer, units: NDArray[np.int64], what: str, severity: str, evidence: str, remedy: str, code: str, source: str
) -> Finding:
    """Return a finding about some units of a layer, whose evidence begins with their number."""
    some, share = f"{len(units)} of {layer.units} units", f"{len(units) / layer.units:.0%}"
    title = f"Layer {layer.name}: {some} {what}"
    return Finding(
        severity, title, layer.name, tuple(units.tolist()), f"{some} ({share}) {evidence}", remedy, code, source
    )


def _healthy(census: Census) -> Finding:
    layers = [layer for layer in census.layers if layer.units]
    least = min(layer.samples for layer in layers)
    return Finding(
        "healthy",
        "Healthy",
        None,
        (),
        f"{counted(len(layers), 'layer')}, {counted(census.units, 'unit')}, at least {least} inputs each: none "
        f"silent, fewer than {LINEAR:.0%} of any layer always on.",
        "Nothing to do.",
    )


def _nothing(census: Census) -> Finding:
    return Finding(
        "note",
        "No units",
        None,
        (),
        f"{counted(len(census.layers), 'layer')}, but nothing in them is a unit: there is nothing to say.",
        "Check the shapes: the axis of the units has length 0.",
    )


def _distance(layer: Layer, units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the standard deviations between mean input and zero; of units that never cross it, the output has both."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(layer.output_mean[units]) / layer.output_std[units])


def _count_samples(layer: Layer) -> int:
    """Return the number of samples that a layer saw, or of its inputs, where samples were not counted."""
    return layer.samples if layer.entries is None else layer.entries


def _seen(layer: Layer) -> str:
    if layer.entries in (None, layer.samples):
        return f"{layer.samples} inputs"
    return f"{counted(layer.entries or 0, 'sample')} ({layer.samples} inputs)"


def _bound(layer: Layer) -> str:
    if layer.entries is None:
        return "p has no known bound, since samples were not counted"
    return f"p < {layer.silent_bound.max():.2g} at 95 % (3/n)"


def _one_slope(layer: Layer) -> float:
    return float(np.mean(layer.negative_slope))
