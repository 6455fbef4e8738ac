"""The settings of a study: sizes, length, seeds, learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The recipe, the same for every row.

    Parameters
    ----------
    depth
        Hidden layers, each a linear layer and an activation.
    width
        Units in each of them.
    epochs
        Passes over the training data.
    seeds
        Number of seeds; run number s uses seed s for matrices and batches, in every row.
    learning_rates
        Adam's step sizes; each row is reported at the one with the best median validation accuracy.
    batch_size
        Samples in a batch.

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

    def __post_init__(self) -> None:
        for name in ("depth", "width", "epochs", "seeds", "batch_size"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1, got {value}")
        if not self.learning_rates:
            raise ValueError("at least one learning rate is needed, got none")
        for rate in self.learning_rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"a learning rate must be a finite number above 0, got {rate:g}")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise ValueError(f"a learning rate is given twice: {', '.join(f'{r:g}' for r in self.learning_rates)}")


QUICK = Settings(epochs=5, seeds=2)
"""The same network and learning rates, in a few seconds: enough to see the order, not to quote it."""
