"""The findings of a census: what its numbers mean, the worst first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from leakyrelu._text import counted, few, listed, printable
from leakyrelu.diagnosis import remedies
from leakyrelu.diagnosis.evidence import axes_text
from leakyrelu.diagnosis.finding import SEVERITIES, Finding
from leakyrelu.diagnosis.layer_rules import find_in_layer
from leakyrelu.diagnosis.remedies import slope_for
from leakyrelu.diagnosis.thresholds import ENOUGH, LINEAR, MANY, count_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer
    from leakyrelu.diagnosis.unit_axis import UnitAxis

__all__ = ["find", "slope_for"]

_RATE = "Stanford CS231n, Neural Networks Part 1, cs231n.github.io/neural-networks-1"
_EXPLODING = "Pascanu, Mikolov, Bengio, On the Difficulty of Training Recurrent Networks, ICML 2013, arXiv:1211.5063"
_THREE = "Hanley, Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, JAMA 249, 1983"
_TRAINING: Final = frozenset({"nan", "throughout", "silent", "slow", "always on", "saturated", "alike", "rare"})
"""Rules whose remedies change the network or its training, which a frozen program has not."""


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
    found = [*_data(census), *_nan(census), *_network(census), *_assumptions(census)]
    for layer in census.layers:
        found += find_in_layer(layer, len(census.layers))
    if not found:
        found.append(_healthy(census) if census.units else _nothing(census))
    if census.source != "model":
        found = [_for_frozen_program(finding) for finding in found]
    sizes = {layer.name: layer.units for layer in census.layers}

    def rank(finding: Finding) -> tuple[int, float]:
        """Order by severity, then what is about the network, then the larger share of a layer."""
        share = len(finding.units) / sizes[finding.layer] if finding.layer is not None else 2.0
        return SEVERITIES.index(finding.severity), -share

    return tuple(sorted(found, key=rank))


def _for_frozen_program(finding: Finding) -> Finding:
    if finding.rule not in _TRAINING:
        return finding
    return replace(finding, remedy=f"{remedies.FROZEN} {finding.remedy}", code="")


def _data(census: Census) -> Iterator[Finding]:
    for check in census.data:
        if check.is_finite:
            continue
        who, verb = (f"Input {printable(check.name)}", "holds") if check.name else ("The data", "hold")
        found = {"NaN": (check.nan, "NaN"), "infinity": (check.infinite, "infinite")}
        kinds = [kind for kind, (number, _) in found.items() if number]
        numbers = listed([f"{counted(number, 'value')} {what}" for number, what in found.values() if number])
        place = f", at index {check.first_place} within it" if check.first_place else ""
        mask = " Minus infinity may be meant, in a mask of attention." if check.name and not check.nan else ""
        yield Finding(
            "warning" if mask else "critical",
            f"{who} {verb} {listed(kinds)}",
            None,
            (),
            f"{numbers}, in {check.flawed} of {counted(check.samples, 'sample')}. The first: sample "
            f"{check.first_sample}, counted from 0{place}.{mask}",
            "Repair or leave out these samples, then take the report again: behind them, numbers of every layer are "
            "wrong or missing.",
            rule="data",
        )


def _nan(census: Census) -> Iterator[Finding]:
    """One finding about the first layer that saw NaN: they spread, so that the others follow from it."""
    if (layer := census.first_nan_layer) is None:
        return
    others = [printable(other.name) for other in census.layers if len(other.nan_units) and other is not layer]
    if not census.data:
        begin = "Look for NaN in the data first, then for the step at which the weights became NaN"
    elif all(check.is_finite for check in census.data):
        begin = "All values of the data are finite: look for the step at which the weights became NaN"
    else:
        begin = "Repair the data first, which are not finite. If NaN remain, look for the step that made them"
    more = f" So did {counted(len(others), 'layer')} called later: {few(others, 3)}." if others else ""
    yield Finding(
        "critical",
        f"Layer {printable(layer.name)}: NaN",
        layer.name,
        tuple(layer.nan_units.tolist()),
        f"{counted(int(layer.counts.nan.sum()), 'input')} of {counted(len(layer.nan_units), 'unit')} were NaN, "
        f"of {layer.samples} each. No layer called before it saw any.{more}",
        f"{begin}: a smaller learning rate and clipped gradients prevent it.",
        remedies.ANOMALY,
        _EXPLODING,
        "nan",
        printable(str(layer.place)),
    )


def _network(census: Census) -> Iterator[Finding]:
    layers = [layer for layer in census.layers if layer.units]
    if short := [layer for layer in layers if count_samples(layer) < ENOUGH]:
        by_samples = all(layer.entries is not None for layer in short)
        least = min(count_samples(layer) if by_samples else layer.samples for layer in short)
        bound = ""
        if by_samples:
            most = f"{min(3 / max(least, 1), 1):.0%}"
            bound = (
                f" A unit that was never positive in {counted(least, 'sample')} may still fire on up to {most} of all "
                "samples (at 95 %)."
            )
        yield Finding(
            "note",
            "More data first",
            None,
            (),
            f"{counted(len(short), 'layer')} of {len(layers)} saw fewer than {ENOUGH} "
            f"{'samples' if by_samples else 'inputs a unit'} (the least: {least}).{bound}",
            f"Run at least {ENOUGH} samples before calling a unit of these layers silent or always on.",
            source=_THREE,
            rule="samples",
        )
    hurt = [
        layer for layer in layers if count_samples(layer) >= ENOUGH and len(layer.silent_units) >= MANY * layer.units
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
            remedies.SHORTER_STEPS,
            _RATE,
            "throughout",
        )
    if census.unused:
        yield Finding(
            "note",
            f"{counted(len(census.unused), 'activation')} never called",
            None,
            (),
            f"Never called: {few([printable(name) for name in census.unused], 6)}.",
            "Check that the data takes the path on which they lie; nothing is known of them.",
            rule="unused",
        )


def _assumptions(census: Census) -> Iterator[Finding]:
    """One finding for each layer whose answer depends on the axis, and one for all others with an assumed axis."""
    same = []
    for layer in census.layers:
        if layer.axis is None or layer.axis.known:
            continue
        silent = len(layer.silent_units)
        if all(len(counts.silent_units) == silent for counts in layer.axis.alternatives.values()):
            same.append(layer)
        else:
            yield _assumed(census, [layer], "warning")
    if same:
        yield _assumed(census, same, "note")


def _assumed(census: Census, layers: list[Layer], severity: str) -> Finding:
    (first, *others) = layers
    axes = {layer.name: layer.axis.axes[0] for layer in layers if layer.axis is not None and layer.axis.axes}
    if census.command:
        option, again = "--unit-axis", [("--unit-axis", f"{name}={axis}") for name, axis in axes.items()]
        code = remedies.command_line(census.command, again)
    else:
        option, code = "unit_axis", remedies.count_again(census.source, axes)
    who = f"{counted(len(layers), 'layer')}" if others else f"Layer {printable(first.name)}"
    return Finding(
        severity,
        f"{who}: the axis of the units is an assumption",
        None if others else first.name,
        (),
        " ".join(_alternatives(layer, layer.axis, named=bool(others)) for layer in layers if layer.axis is not None),
        "Nothing in the network decides which axis holds the output channels of the layer in front. Name it in "
        f"{option}; the axis below is the assumed one.",
        code,
        rule="axis",
        place="" if others else printable(str(first.place)),
    )


def _alternatives(layer: Layer, axis: UnitAxis, *, named: bool) -> str:
    of = f" of {printable(layer.name)}" if named else ""
    text = (
        f"Units{of} read along {axes_text(axis.axes)} of {axis.shape}, which is an assumption: "
        f"{counted(layer.units, 'unit')}, {len(layer.silent_units)} silent"
    )
    others = [
        f"along axis {number}: {counted(counts.units, 'unit')}, {len(counts.silent_units)} silent"
        for number, counts in axis.alternatives.items()
    ]
    return f"{'; '.join([text, *others])}."


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
        rule="healthy",
    )


def _nothing(census: Census) -> Finding:
    return Finding(
        "note",
        "No units",
        None,
        (),
        f"{counted(len(census.layers), 'layer')}, but nothing in them is a unit: there is nothing to say.",
        "Check the shapes: the axis of the units has length 0.",
        rule="empty",
    )
