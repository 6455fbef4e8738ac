"""The plan of a census: what to do first, what then, and what checks it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from leakyrelu._text import counted, few, listed, printable, shorten
from leakyrelu.diagnosis import remedies
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.thresholds import ENOUGH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.finding import Finding

_NAMED = 3  # layers named in a step
_NAME = 40  # columns of such a name

# In this order: what makes the numbers wrong, what makes them uncertain, then what they say.
_STEPS: Final[dict[str, Callable[[Sequence[Finding]], str]]] = {
    "data": lambda found: f"Repair the data: {found[0].evidence.split('.')[0]}",
    "nan": lambda found: f"Find the step that made NaN, first seen in {_layers(found[:1])}",
    "samples": lambda found: f"Take at least {ENOUGH} samples: some layers saw fewer",
    "axis": lambda found: "Name the axis of the units where it is an assumption that decides what is found",
    "throughout": lambda found: "Train with a lower learning rate, or warm it up: most layers have silent units",
    "silent": lambda found: (
        f"Reinitialize {counted(_units(found), 'silent unit')} of {_layers(found)}, and give the network a slope"
    ),
    "slow": lambda found: f"Bring back {counted(_units(found), 'silent unit')} of {_layers(found)}",
    "saturated": lambda found: f"Make the inputs of {_layers(found)} smaller",
    "always on": lambda found: f"Center the inputs of {_layers(found)}, where units are always on",
}
_FAIL_ON: Final = {"nan": "nan=0%", "silent": "silent=0%", "slow": "silent=0%", "saturated": "saturated=0%"}


@dataclass(frozen=True)
class Step:
    """One step of a plan: what to do, in words, and in code or as a command where that is short."""

    text: str
    code: str = ""

    def __str__(self) -> str:
        return "\n".join([self.text, *(f"  {line}" for line in self.code.splitlines())])


def make_plan(census: Census) -> tuple[Step, ...]:
    """Return what to do about the findings, in this order; the last step checks the others.

    Critical findings and warnings give a step for each rule; notes alone ask for nothing but another look, unless more
    data are needed or the axis of the units is assumed. Empty where nothing was counted.

    Examples
    --------
    >>> from leakyrelu.diagnosis import Counts, Layer, Report
    >>> counts = Counts(1000, 1, [0], [0], [0], [1000], [0.0], [0.0], [0.0], entries=1000)
    >>> command = ["leakyrelu", "diagnose", "net:make", "--data", "x.npy"]
    >>> for step in make_plan(Report([Layer("relu", "ReLU", 0.0, counts)], command=command)):
    ...     print(step)
    Reinitialize 1 silent unit of relu, and give the network a slope (finding 1).
    Check it, after some epochs of training:
      leakyrelu diagnose net:make --data x.npy --fail-on silent=0%
    """
    found = find(census)
    if not found:
        return ()
    if found[0].severity == "healthy":
        return (Step("Nothing to do."),)
    steps, rules = [], []
    for rule, describe in _STEPS.items():
        numbers = [i for i, finding in enumerate(found) if finding.rule == rule and _asks(finding)]
        if numbers:
            rules.append(rule)
            text = describe([found[i] for i in numbers])
            steps.append(
                Step(f"{text} ({'finding' if len(numbers) == 1 else 'findings'} {few([i + 1 for i in numbers], 5)}).")
            )
    trained = any(rule not in ("data", "samples", "axis") for rule in rules)
    if trained and census.source != "model":
        steps.append(Step("Export the network again, from the code that trains it: the file itself cannot be trained."))
    if not steps:
        steps.append(Step(f"Nothing is urgent: {counted(len(found), 'note')}."))
    when = ", after some epochs of training" if trained or not rules else ""
    return (*steps, Step(f"Check it{when}:", _check(census, rules)))


def _asks(finding: Finding) -> bool:
    return finding.severity != "note" or finding.rule in ("samples", "axis")


def _check(census: Census, rules: Sequence[str]) -> str:
    if not census.command:
        return remedies.count_again(census.source)
    limits = dict.fromkeys(_FAIL_ON[rule] for rule in rules if rule in _FAIL_ON) or {"silent=0%": None}
    return remedies.command_line(census.command, [("--fail-on", limit) for limit in limits])


def _layers(found: Sequence[Finding]) -> str:
    names = [shorten(printable(finding.layer or ""), _NAME) for finding in found]
    names = [f"'{name}'" if "," in name else name for name in names]
    return listed(names) if len(names) <= _NAMED else few(names, _NAMED)


def _units(found: Sequence[Finding]) -> int:
    return sum(len(finding.units) for finding in found)
