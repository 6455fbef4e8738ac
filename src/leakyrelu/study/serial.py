"""Every number of a study as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from leakyrelu.study.reading import reading

if TYPE_CHECKING:
    import os

    from leakyrelu.study.result import StudyResult


def write_json(result: StudyResult, path: str | os.PathLike[str]) -> None:
    """Write `StudyResult.to_dict`, with the sentence of `reading`, as strict JSON."""
    document = {"reading": reading(result), **result.to_dict()}
    Path(path).write_text(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
