"""The type of a finding: what the numbers of a census mean, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

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
        The remedy in PyTorch; empty where there is nothing to run. `model`, `report` and `optimizer` are the reader's.
        Comments have lines of their own and lines are at most 76 columns, so that a terminal of 80 breaks none.
    source
        Where the remedy comes from.
    """

    severity: str
    title: str
    layer: str | None
    units: tuple[int, ...]
    evidence: str
    remedy: str
    code: str = ""
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "units": list(self.units)}

    def __str__(self) -> str:
        lines = [f"{self.severity}: {self.title}", f"  {self.evidence}", f"  {self.remedy}"]
        lines += [f"    {line}" for line in self.code.splitlines()]
        return "\n".join([*lines, *([f"  [{self.source}]"] if self.source else [])])
