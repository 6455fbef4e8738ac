"""Answer of `choose_slope`: the slope, why, and the similarities that it follows from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING

from leakyrelu._files import write_file
from leakyrelu._json import to_plain
from leakyrelu._text import counted

if TYPE_CHECKING:
    import os


@dataclass(frozen=True)
class LayerSimilarity:
    """Cosine similarity of unrelated inputs behind an activation: at the chosen slope (0.01 if there is none), 0.01, 0.

    `name` is the module, or the function and the module that calls it; `units` its channels, None if not known.
    """

    name: str
    chosen: float
    usual: float
    relu: float
    units: int | None = None


@dataclass(frozen=True)
class WorstPart:
    """The part of a network that makes unrelated inputs most alike, at the chosen slope (0.01 if there is none).

    `start` is the operation behind which it begins, "input" for the inputs of the network; `end` is an activation.
    """

    start: str
    end: str
    similarity: float


@dataclass(frozen=True)
class SlopeChoice:
    """Result of `choose_slope`; its repr is the answer in one sentence and what it rests on.

    Attributes
    ----------
    slope
        The slope at which the worst part makes a similarity of `eta`; None where no slope is to be chosen.
    reason
        Why, in one sentence.
    layers
        Similarity behind each activation, in the order of the calls.
    worst
        The worst part.
    present
        Similarity of unrelated inputs at the last activation with the weights as they are, at the same slope.
    assumed
        Approximations, such as sums whose sides are not independent, each with its place.
    unknown
        Operations that could not be read, each with its place. They are taken to change nothing.
    remarks
        What else to know: narrow layers, weights that do not fit.
    eta
        The similarity that was asked for.

    Examples
    --------
    >>> from torch import nn, randn
    >>> from leakyrelu.torch import choose_slope
    >>> layers = [layer for _ in range(30) for layer in (nn.Linear(256, 256, bias=False), nn.ReLU())]
    >>> round(choose_slope(nn.Sequential(*layers), randn(8, 256)).slope, 3)
    0.303
    """

    slope: float | None
    reason: str
    layers: tuple[LayerSimilarity, ...]
    worst: WorstPart
    present: float
    assumed: tuple[str, ...]
    unknown: tuple[str, ...]
    remarks: tuple[str, ...]
    eta: float

    def __repr__(self) -> str:
        lines = [self.reason, *self.remarks]
        part = f"worst part: from {self.worst.start} to {self.worst.end}, {self.worst.similarity:.3f}"
        lines.append(f"{part} ({counted(len(self.layers), 'activation')} in all)")
        for title, texts in (("assumed", self.assumed), ("not read", self.unknown)):
            lines += [f"  {title}  {text}" for text in texts[:_SHOWN]]
            if len(texts) > _SHOWN:
                lines.append(f"  {title}  and {len(texts) - _SHOWN} more")
        return "\n".join(lines)

    def columns(self) -> dict[str, list[float]]:
        """Return the similarity behind each activation by slope: the chosen one, if there is one, 0.01 and 0."""
        found = {} if self.slope is None else {f"{self.slope:.3f}": [layer.chosen for layer in self.layers]}
        usual, relu = ([getattr(layer, key) for layer in self.layers] for key in ("usual", "relu"))
        return {**found, f"{USUAL}": usual, "0": relu}

    def _repr_html_(self) -> str:
        columns = self.columns()
        head = "".join(f"<th>{each}</th>" for each in ("activation", *columns))
        rows = "".join(
            f"<tr><td>{escape(layer.name)}</td>" + "".join(f"<td>{value:.3f}</td>" for value in values) + "</tr>"
            for layer, *values in zip(self.layers, *columns.values(), strict=True)
        )
        return (
            f"<p>{escape(self.reason)}</p>"
            f"<table><caption>Similarity of unrelated inputs, by slope</caption><tr>{head}</tr>{rows}</table>"
        )

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the answer as JSON, and write it to a file if one is given."""
        text = json.dumps(to_plain(asdict(self)), allow_nan=False)
        if path is not None:
            write_file(path, text + "\n")
        return text


USUAL = 0.01
"""The slope that PyTorch's Leaky ReLU has by default."""

_SHOWN = 5  # lines of a kind in the repr
