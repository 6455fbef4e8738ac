"""What a reader found of what was planted, in the reader's own terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from benchmarks.peers.readers import POSITIONS, WARNINGS

if TYPE_CHECKING:
    from benchmarks.peers.networks import Case, Place
    from benchmarks.peers.readers import Reader, Rows


class Score(NamedTuple):
    """Units, positions or layers: how many were planted, how many of them were found, and how many more were named."""

    planted: int
    found: int
    false_alarms: int

    @property
    def exact(self) -> bool:
        """Whether everything planted was found and nothing else was called dead."""
        return self.found == self.planted and not self.false_alarms


def _row(reader: Reader, place: Place, rows: Rows) -> str:
    names = reader.rows(place)
    return next((name for name in names if name in rows), names[0])


def score(reader: Reader, case: Case, rows: Rows) -> Score:
    """Hold the rows of a reader against what was planted.

    A row that names units is held against these units. A count, or a share, is taken at its best: as many planted units
    as it can stand for are taken for found, and only the rest are false alarms. A row that stands for several places
    speaks of all of them.
    """
    places: dict[str, list[int]] = {}
    for number, place in enumerate(case.places):
        places.setdefault(_row(reader, place, rows), []).append(number)
    planted = found = false_alarms = 0
    for name, numbers in places.items():
        dead = [case.planted[number] for number in numbers]
        if reader.reports == POSITIONS:
            expected = sum(len(case.planted[number]) * case.positions[number] for number in numbers)
        elif reader.reports == WARNINGS:
            expected = int(any(dead))
        else:
            expected = sum(map(len, dead))
        planted += expected
        said = rows.get(name, 0)
        if isinstance(said, frozenset):
            found += sum(len(said & units) for units in dead)
            false_alarms += len(said.difference(*dead))
        else:
            count = round(said * case.units * len(numbers)) if isinstance(said, float) else said
            found += min(count, expected)
            false_alarms += max(count - expected, 0)
    if reader.activations_only:
        others = [said for name, said in rows.items() if name not in places]
        false_alarms += sum(len(said) for said in others if isinstance(said, frozenset))
    return Score(planted, found, false_alarms)
