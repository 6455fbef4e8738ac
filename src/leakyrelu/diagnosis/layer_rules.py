"""The rules that derive findings from the numbers of one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leakyrelu._text import counted, printable
from leakyrelu.diagnosis import remedies
from leakyrelu.diagnosis.evidence import certainty, seen
from leakyrelu.diagnosis.finding import SEVERITIES, Finding
from leakyrelu.diagnosis.remedies import slope_for
from leakyrelu.diagnosis.thresholds import ALIKE, ENOUGH, FAR, LINEAR, MANY, MOST, RARE, count_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from leakyrelu.diagnosis.layer import Layer

_REVIVE = "Sokar et al., The Dormant Neuron Phenomenon in Deep RL, ICML 2023, arXiv:2302.12902"
_DYING = "Lu et al., Dying ReLU and Initialization, 2020, arXiv:1903.06733"
_LEAKY = "Maas, Hannun, Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013"
_HE = "He et al., Delving Deep into Rectifiers, ICCV 2015, arXiv:1502.01852"
_REGIONS = "Montufar et al., On the Number of Linear Regions, NeurIPS 2014, arXiv:1402.1869"
_SATURATED = "Glorot, Bengio, Understanding the Difficulty of Training Deep Networks, AISTATS 2010"


def find_in_layer(layer: Layer, depth: int) -> Iterator[Finding]:
    """Find what is worth an action in one layer of a network of `depth` rectifiers, NaN excepted."""
    if count_samples(layer) < ENOUGH or layer.units == 0:
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
    evidence = f"were never positive in {seen([layer])}: {certainty([layer])}."
    far = _distance(layer, units)
    drifted = far[far >= FAR]
    if dead:
        _, why, source = slope_for(depth)
        everything = " Nothing passes the layer." if len(units) == layer.units else ""
        evidence += f"{everything} Under ReLU no gradient reaches them."
        remedy = (
            f"{'They are few: act only if their number grows with every epoch. ' if rank == 2 else ''}"
            "Reinitialize them during training; to keep it from happening again, give them a slope. "
            f"{why[0].upper()}{why[1:]}."
        )
        code, source = remedies.revive_and_replace(depth), f"{_REVIVE}; {source}"
    elif len(drifted) >= max(1, len(units) / 2):
        evidence += (
            f" The inputs of {len(drifted)} of them lie {np.median(drifted):.1f} standard deviations below zero: their "
            "bias has drifted."
        )
        remedy = (
            "They learn, at a rate proportional to the slope. Set the biases to zero, or put a batch norm in front of "
            "the activation, and lower the learning rate of the biases."
        )
        code, source = remedies.zero_bias(layer), _DYING
    else:
        remedy = (
            f"They learn, {float(slopes[slopes != 0].min()):.3g} times as fast as the others at the least. Train on; "
            "if they stay silent, a larger slope speeds it up."
        )
        code, source = remedies.look_again(layer, "silent_units"), _LEAKY
    rule = "silent" if dead else "slow"
    yield _units(layer, units, rule, "silent", SEVERITIES[rank], evidence, remedy, code, source)


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
        "always on",
        "warning" if share >= MOST else "note",
        f"were positive in all of {layer.samples} inputs: on this data they are linear.{text}",
        "They add nothing that the next linear layer could not compute. Check that the inputs are centered and "
        "biases start at zero; a batch norm in front of the activation brings its inputs back around zero.",
        remedies.initialize(layer),
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
        "rare",
        "nearly silent",
        "note",
        f"were positive in at most {RARE:.0%} of {layer.samples} inputs, the median in {np.median(share[units]):.2%}.",
        "They may be detectors of something rare, or on their way to silence: look again some epochs later.",
        remedies.look_again(layer, "positive_share"),
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
        "saturated",
        "always at the ceiling",
        "critical" if share >= MOST else "warning" if share >= MANY else "note",
        f"were at or above {layer.ceiling:g} in all of {layer.samples} inputs: no gradient reaches them.",
        "Their inputs are too large: scale the data, lower the learning rate, or put a batch norm in front.",
        remedies.initialize(layer),
        _SATURATED,
    )


def _alike(layer: Layer, depth: int) -> Iterator[Finding]:
    ratio = layer.mean_over_std
    similarity = 1.0 if np.isinf(ratio) else ratio**2 / (1 + ratio**2)
    if not similarity >= ALIKE or layer.units < 2:  # NaN is no finding: the layer gave out only zeros
        return
    depth = max(depth, 2)
    yield Finding(
        "note",
        f"Layer {printable(layer.name)}: its outputs are nearly alike",
        layer.name,
        (),
        f"The norm of the mean outputs is {ratio:.1f} times that of their standard deviations: two samples are "
        f"{similarity:.3f} alike on average (cosine).",
        "What all samples share outweighs what separates them. Center: a batch norm in front, or the centered slope "
        f"for {counted(depth, 'layer')}, {remedies.centered_slope(depth)} (leakyrelu.slope.centered), for a network "
        "trained from scratch.",
        remedies.center(depth),
        remedies.TAILORED,
        "alike",
        printable(str(layer.place)),
    )


def _units(
    layer: Layer,
    units: NDArray[np.int64],
    rule: str,
    what: str,
    severity: str,
    evidence: str,
    remedy: str,
    code: str,
    source: str,
) -> Finding:
    """Return a finding about some units of a layer, whose evidence begins with their number."""
    some, share = f"{len(units)} of {layer.units} units", f"{len(units) / layer.units:.0%}"
    return Finding(
        severity,
        f"Layer {printable(layer.name)}: {some} {what}",
        layer.name,
        tuple(units.tolist()),
        f"{some} ({share}) {evidence}",
        remedy,
        code,
        source,
        rule,
        printable(str(layer.place)),
    )


def _distance(layer: Layer, units: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the standard deviations between mean input and zero; of units that never cross it, the output has both."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(layer.output_mean[units]) / layer.output_std[units])
