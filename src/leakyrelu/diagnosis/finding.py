"""The type of a finding: what the numbers of a census mean, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from leakyrelu._text import printable

SEVERITIES: Final = ("critical", "warning", "note", "healthy")
"""From the worst to none."""


@dataclass(frozen=True)
class Finding:
    """A conclusion from the numbers of a census, with its evidence and a remedy.

    Parameters
    ----------
    severity
        One of `SEVERITIES`.
    title
        What it is, in a few words.
    layer
        The layer it is about; None where it is about the network.
    units
        The units it is about; empty where it is about all.
    evidence
        The numbers, in words.
    remedy
        What to do, and why that.
    code
        The remedy in Python, complete with its imports; empty where there is nothing to run. `model`, `data`, `report`
        and `optimizer` are the reader's: a comment says what they are. Comments have lines of their own and lines are
        at most 76 columns, so that a terminal of 80 breaks none.
    source
        Where the remedy comes from.
    rule
        The rule that found it: a word that stays the same whatever the network is.
    place
        Where the layer stands, in words; empty where that is not known.
    """

    severity: str
    title: str
    layer: str | None
    units: tuple[int, ...]
    evidence: str
    remedy: str
    code: str = ""
    source: str = ""
    rule: str = ""
    place: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "units": list(self.units)}

    def __str__(self) -> str:
        paragraphs = [self.place and f"Where: {self.place}", self.evidence, self.remedy]
        lines = [f"{self.severity}: {self.title}", *(f"  {text}" for text in paragraphs if text)]
        lines += [f"    {line}" for line in self.code.splitlines()]
        return "\n".join(map(printable, [*lines, *([f"  [{self.source}]"] if self.source else [])]))
