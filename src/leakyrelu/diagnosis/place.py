"""Where an activation stands in a network: the module that calls it, what feeds it, and the line of the source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where an activation is called; each text is empty where it is not known.

    Parameters
    ----------
    inside
        Path of the module that calls it, such as ``"layer2.0"``.
    after
        What feeds it: the layers whose outputs reach it with nothing but reshapes, sums and the like in between, such
        as ``"bn2"`` or ``"bn2 + layer1.0.act"``.
    source
        File and line of the call, such as ``"resnet.py:92"``.

    Examples
    --------
    >>> from leakyrelu.diagnosis.place import Place
    >>> str(Place("layer2.0", "layer2.0.bn2", "resnet.py:92"))
    'in layer2.0, after bn2, resnet.py:92'
    """

    inside: str = ""
    after: str = ""
    source: str = ""

    @property
    def fed_by(self) -> str:
        """`after`, with paths as the calling module has them."""
        within = f"{self.inside}." if self.inside else ""
        return " + ".join(path.removeprefix(within) for path in self.after.split(" + "))

    def __or__(self, other: Place) -> Place:
        """Return this place, with what is not known of it taken from another."""
        return Place(self.inside or other.inside, self.after or other.after, self.source or other.source)

    def __str__(self) -> str:
        parts = (self.inside and f"in {self.inside}", self.fed_by and f"after {self.fed_by}", self.source)
        return ", ".join(part for part in parts if part)


NOWHERE = Place()
"""The place of a layer of which nothing is known but its name."""
