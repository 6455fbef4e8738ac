"""A report beside the calls of the oracle: which axes are right, assumed or wrong, and which units are found."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.units.oracle import Call
    from leakyrelu.diagnosis import Layer, Report

_MOST_TRIED = 3000  # sets of calls, for a row that counts several


@dataclass
class Verdict:
    """What a report says of one network.

    Attributes
    ----------
    calls, rows
        Calls of rectifiers that the oracle saw, and rows of the report.
    right, wrong
        Rows whose axes are known, and are those of the oracle or not.
    assumed, assumed_right
        Rows whose axes are marked as assumed where the oracle finds a layer that feeds them; how many are right.
    open
        Rows where the oracle finds no layer whose channels stand apart.
    uncounted
        Calls that no row counts.
    unmatched
        Rows whose counts are those of no call.
    planted, found, named
        Silent units of the calls, along the axes of the oracle; those that the report lists; and the further ones that
        it would list along an alternative that it names.
    remarks
        Each fault, in words.
    """

    calls: int = 0
    rows: int = 0
    right: int = 0
    wrong: int = 0
    assumed: int = 0
    assumed_right: int = 0
    open: int = 0
    uncounted: int = 0
    unmatched: int = 0
    planted: int = 0
    found: int = 0
    named: int = 0
    remarks: list[str] = field(default_factory=list)


def compare(report: Report, calls: list[Call]) -> Verdict:
    """Compare a report on one batch with the calls that the oracle saw on it."""
    verdict = Verdict(calls=len(calls), rows=len(report.layers))
    left = list(calls)
    for layer in report.layers:
        counted = _calls_of(layer, left)
        if not counted:
            verdict.unmatched += 1
            verdict.remarks.append(f"{layer.name}: its counts are those of no call")
            continue
        left = [call for call in left if call not in counted]
        _judge(verdict, layer, counted)
    for call in left:
        verdict.uncounted += 1
        verdict.remarks.append(f"not counted: a call on {call.shape} behind {call.feeder}")
        if call.feeder is not None:
            verdict.planted += len(_silent([call], call.feeder.axes))
    return verdict


def _calls_of(layer: Layer, left: list[Call]) -> list[Call]:
    """Find the calls that a row counts: several where the same weights feed them, whose counts add up to its own."""
    axis = layer.axis
    if axis is None:
        return []
    count, wanted = layer.counts.calls, layer.counts.positive.tolist()
    of_units = [call for call in left if call.units(axis.axes) == layer.units]
    by_feeder: dict[Any, list[Call]] = {}
    for call in of_units:
        by_feeder.setdefault(call.feeder if count > 1 else None, []).append(call)
    # Where the same weights take what they made before, no layer may stand apart in the later calls.
    for group in [*by_feeder.values(), of_units]:
        for chosen in itertools.islice(itertools.combinations(group, count), _MOST_TRIED):
            counts = [call.counts(axis.axes) for call in chosen]
            if [sum(each) for each in zip(*counts, strict=True)] == wanted:
                return list(chosen)
    return []


def _silent(calls: list[Call], axes: tuple[int, ...]) -> set[int]:
    """Return the units that no call has an input above zero of."""
    return set.intersection(*({unit for unit, count in enumerate(call.counts(axes)) if count == 0} for call in calls))


def _judge(verdict: Verdict, layer: Layer, calls: list[Call]) -> None:
    axis = layer.axis
    assert axis is not None
    call = next((each for each in calls if each.feeder is not None), calls[0])
    if call.feeder is None:
        verdict.open += 1
        return
    truth = call.feeder.axes
    silent, listed = _silent(calls, truth), set(layer.silent_units.tolist())
    is_right = axis.axes == truth
    verdict.planted += len(silent)
    verdict.found += len(silent & listed) if is_right else 0
    text = f"{layer.name}: axes {axis.axes} of {call.shape}, behind {call.feeder.layer} it is {truth}"
    if axis.known:
        verdict.right += is_right
        verdict.wrong += not is_right
        if not is_right:
            verdict.remarks.append(f"wrong, {text}")
    else:
        verdict.assumed += 1
        verdict.assumed_right += is_right
        if not is_right and len(truth) == 1 and truth[0] in axis.alternatives:
            alternative = axis.alternatives[truth[0]]
            verdict.named += len(silent & {unit for unit, count in enumerate(alternative.positive) if count == 0})
        verdict.remarks.append(f"assumed, {text}")
    if is_right and silent != listed:
        verdict.remarks.append(f"{layer.name}: silent are {sorted(silent)}, listed {sorted(listed)}")
