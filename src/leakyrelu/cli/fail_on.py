"""``--fail-on silent=10%``: limits of a report beyond which the command ends with status 1."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from leakyrelu.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakyrelu.diagnosis.report import Report


KINDS = {
    "silent": "silent_units",
    "always-on": "always_on_units",
    "saturated": "saturated_units",
    "nan": "nan_units",
}


class Limit(NamedTuple):
    """Largest share of the units of a network with which the command succeeds."""

    kind: str
    share: float

    def exceeded_by(self, report: Report) -> str | None:
        """Return a line that says that the limit is exceeded, or None."""
        count = sum(len(getattr(layer, KINDS[self.kind])) for layer in report.layers)
        share = count / max(report.units, 1)
        if share <= self.share:
            return None
        return f"{count} of {report.units} units {self.kind} ({share:.2%}), more than {self.share:.4g}"


def parse_limits(texts: Sequence[str]) -> list[Limit]:
    """Read ``silent=10%`` or ``silent=0.1``."""
    limits = []
    for text in texts:
        match = re.fullmatch(r"\s*([a-z-]+)\s*=\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
        if not match or match[1] not in KINDS:
            raise CommandError(f"--fail-on {text!r} is not one of {', '.join(KINDS)} with a share, such as silent=10%")
        share = float(match[2]) / (100 if match[3] else 1)
        if share > 1:
            raise CommandError(f"--fail-on {text!r} is more than all units; write a share such as 10% or 0.1")
        limits.append(Limit(match[1], share))
    return limits
