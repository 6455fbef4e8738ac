"""The settings of a study: network, sizes, length, seeds, learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from leakyrelu._text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FLAT = 0.002
"""Validation is flat where its best accuracy rises by no more than this."""


@dataclass(frozen=True)
class Architecture:
    """What the texts call a network, and the settings that it is studied with where none are given.

    Attributes
    ----------
    kind
        Its kind, in an adjective.
    build
        How it is made, without its size.
    unit
        What its layers consist of.
    normalization
        What is added to its kind where that alone does not name it.
    residual
        Whether it consists of blocks of two layers, behind one layer of its own.
    defaults
        Settings that differ from those of the plain network.
    """

    kind: str
    build: str
    unit: str
    normalization: str = ""
    residual: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def called(self, depth: int) -> str:
        """Return the name of the network of this depth, without an article."""
        return f"{self.kind} {depth}-layer network{self.normalization}"


_SEARCHED = {"width": 16, "epochs": 60, "patience": 10, "learning_rates": (3e-4, 1e-3, 3e-3), "extensions": 4}
_POOLED = "convolutions of 3 with zero padding, the mean over places before the readout"
_BLOCKS = f"blocks x + f(x), f twice an activation and a convolution, {_POOLED}"

ARCHITECTURES: Mapping[str, Architecture] = {
    "mlp": Architecture("plain", "no skip connections, no normalization", "unit"),
    "cnn": Architecture(
        "plain convolutional",
        f"{_POOLED}, no skip connections, no normalization",
        "channel",
        defaults={"depth": 30, **_SEARCHED},
    ),
    "resnet": Architecture(
        "residual",
        f"{_BLOCKS}, no normalization",
        "channel",
        " without normalization",
        residual=True,
        defaults={"depth": 31, **_SEARCHED},
    ),
    "resnet-bn": Architecture(
        "residual",
        f"{_BLOCKS}, batch normalization before every activation",
        "channel",
        " with batch normalization",
        residual=True,
        defaults={"depth": 31, **_SEARCHED},
    ),
}
"""Every network of the study, by name."""


@dataclass(frozen=True)
class Settings:
    """The recipe, the same for every row.

    Parameters
    ----------
    depth
        Hidden layers, each a linear layer or convolution and an activation.
    width
        Units or channels in each of them.
    epochs
        Passes over the training data; with `patience`, the most of them.
    seeds
        Number of seeds; run number s uses seed s for matrices and batches, in every row.
    learning_rates
        Adam's step sizes; each row is reported at the one with the best median validation accuracy.
    batch_size
        Samples in a batch.
    network
        ``"mlp"``, ``"cnn"``, ``"resnet"`` or ``"resnet-bn"``.
    patience
        Stop a training once validation is flat: its best accuracy of the last `patience` epochs is at most 0.002 above
        the best before them. With 0, every training takes all `epochs`.
    extensions
        How often the learning rates of a row whose best is their lowest or highest are extended on that side, each
        time by the factor between the last two.

    Raises
    ------
    ValueError
        A number that cannot be trained with; the message names it.
    """

    depth: int = 50
    width: int = 64
    epochs: int = 15
    seeds: int = 5
    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    batch_size: int = 64
    network: str = "mlp"
    patience: int = 0
    extensions: int = 0

    def __post_init__(self) -> None:
        if self.network not in ARCHITECTURES:
            raise ValueError(f"there is no network {self.network!r}; there are {', '.join(ARCHITECTURES)}")
        for name in ("depth", "width", "epochs", "seeds", "batch_size", "patience", "extensions"):
            value, least = getattr(self, name), 0 if name in ("patience", "extensions") else 1
            if value < least:
                raise ValueError(f"{name.replace('_', ' ')} must be at least {least}, got {value}")
        if self.architecture.residual and (self.depth < 3 or self.depth % 2 == 0):
            odd = max(self.depth - 1, 3)
            raise ValueError(
                f"a residual network has one layer and two in each block: depth must be odd and at least 3, got "
                f"{self.depth}; {odd} would do"
            )
        if not self.learning_rates:
            raise ValueError("at least one learning rate is needed, got none")
        for rate in self.learning_rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"a learning rate must be a finite number above 0, got {rate:g}")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise ValueError(f"a learning rate is given twice: {', '.join(f'{r:g}' for r in self.learning_rates)}")

    @property
    def architecture(self) -> Architecture:
        """The entry of the network in `ARCHITECTURES`."""
        return ARCHITECTURES[self.network]

    @property
    def called(self) -> str:
        """The network in words, without an article."""
        return self.architecture.called(self.depth)

    @property
    def length(self) -> str:
        """How long a training lasts, in words."""
        if not self.patience:
            return counted(self.epochs, "epoch")
        return (
            f"epochs until validation is flat (its best accuracy of the last {self.patience} at most "
            f"{100 * FLAT:g} points above the best before), at most {self.epochs}"
        )

    def flat(self, accuracies: Sequence[float]) -> bool:
        """Return whether validation is flat after these epochs; never without `patience`."""
        if not self.patience or len(accuracies) < 2 * self.patience:
            return False
        rise = max(accuracies[-self.patience :]) - max(accuracies[: -self.patience])
        return round(rise, 9) <= FLAT  # 0.902 - 0.9 is 0.002, too

    def next_rate(self, rates: Iterable[float], best: float) -> float | None:
        """Return the learning rate to try where the best of these is at an edge of them, None where it lies inside."""
        grid = sorted(rates)
        if len(grid) == 1:
            grid.append(3 * best)  # nothing says the factor: about half a power of ten
        if best not in (grid[0], grid[-1]):
            return None
        neighbor = grid[1] if best == grid[0] else grid[-2]
        rounded = float(f"{best * (best / neighbor):.2g}")
        return rounded if 0 < rounded < math.inf and rounded not in grid else None  # a grid finer than the rounding


def default_settings(network: str = "mlp", *, quick: bool = False) -> Settings:
    """Return the settings that a network is studied with where none are given; `quick`: a first look.

    Raises
    ------
    ValueError
        There is no such network.
    """
    settings = Settings(network=network, **(ARCHITECTURES[network].defaults if network in ARCHITECTURES else {}))
    return replace(settings, epochs=5, seeds=2, patience=0, extensions=0) if quick else settings


QUICK = default_settings(quick=True)
"""The same network and learning rates, in a few seconds: enough to see the order, not to quote it."""
