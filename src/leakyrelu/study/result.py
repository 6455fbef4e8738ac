"""The numbers of a study, as data: no text, no picture."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leakyrelu._json import to_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leakyrelu.study.settings import Settings
    from leakyrelu.study.variants import Row


@dataclass(frozen=True)
class Run:
    """One training, by seed and learning rate.

    Attributes
    ----------
    loss, validation_accuracy
        One number an epoch: mean training loss over its batches, accuracy after it.
    seconds
        Training alone, on one thread.
    diverged
        Whether a loss or a weight was no longer finite.
    """

    seed: int
    learning_rate: float
    loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    seconds: float
    diverged: bool


@dataclass(frozen=True)
class Snapshot:
    """The units and gradients of a network on the training data; tuples have one number a hidden layer, in order.

    Attributes
    ----------
    gradient_norm
        Frobenius norm of the gradient of the mean loss by the weights.
    silent_units, always_on_units
        Units whose input was positive for no sample, for every sample.
    mean_over_std
        Norm of the units' output means over norm of their standard deviations; 0 is centered.
    """

    gradient_norm: tuple[float, ...]
    silent_units: tuple[int, ...]
    always_on_units: tuple[int, ...]
    mean_over_std: tuple[float, ...]


@dataclass(frozen=True)
class Examination:
    """A chosen run before and after training, with its accuracy on the test data."""

    seed: int
    test_accuracy: float
    before: Snapshot
    after: Snapshot


@dataclass(frozen=True)
class RowResult:
    """One activation: all its runs, and the examination of those at the chosen learning rate.

    Summaries are medians over the seeds. A run that diverged counts with the accuracy it had; its layers are not
    counted, since a network of NaN has no units to speak of.
    """

    row: Row
    width: int
    learning_rate: float
    runs: tuple[Run, ...]
    examinations: tuple[Examination, ...]

    @property
    def chosen(self) -> tuple[Run, ...]:
        """The runs at the chosen learning rate."""
        return tuple(run for run in self.runs if run.learning_rate == self.learning_rate)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Every learning rate that was tried, the lowest first."""
        return tuple(sorted({run.learning_rate for run in self.runs}))

    @property
    def edge(self) -> Literal["lowest", "highest", "only"] | None:
        """Which of the learning rates the chosen one is, where it does not lie between two others."""
        rates = self.learning_rates
        if len(rates) == 1:
            return "only"
        return {rates[0]: "lowest", rates[-1]: "highest"}.get(self.learning_rate)  # type: ignore[return-value]

    @property
    def epochs(self) -> tuple[int, ...]:
        """How long each chosen run was trained."""
        return tuple(len(run.loss) for run in self.chosen)

    @property
    def test_accuracy(self) -> float:
        """Median over the seeds."""
        return float(np.median(self.test_accuracies))

    @property
    def test_accuracies(self) -> tuple[float, ...]:
        """One number a seed."""
        return tuple(examination.test_accuracy for examination in self.examinations)

    @property
    def validation_accuracy(self) -> float:
        """Median over the seeds, after the last epoch: what the learning rate was chosen by."""
        return float(np.median([run.validation_accuracy[-1] for run in self.chosen]))

    @property
    def silent_before(self) -> float:
        """Share of all hidden units that are silent at initialization."""
        return self._median(lambda e: np.sum(e.before.silent_units) / (self.width * len(e.before.silent_units)))

    @property
    def silent_after(self) -> float:
        """Share of all hidden units that are silent after training."""
        return self._median(
            lambda e: np.sum(e.after.silent_units) / (self.width * len(e.after.silent_units)), trained=True
        )

    @property
    def gradient_ratio(self) -> float:
        """Gradient norm of the first hidden layer over that of the last, at initialization."""

        def ratio(examination: Examination) -> float:
            first, last = (examination.before.gradient_norm[i] for i in (0, -1))
            return first / last if last else math.nan  # features that are constant have no gradient

        return self._median(ratio)

    @property
    def mean_over_std_before(self) -> float:
        """Mean over the layers, at initialization."""
        return self._median(lambda e: float(np.mean(e.before.mean_over_std)))

    @property
    def mean_over_std_after(self) -> float:
        """Mean over the layers, after training."""
        return self._median(lambda e: float(np.mean(e.after.mean_over_std)), trained=True)

    @property
    def seconds(self) -> float:
        """Seconds of one training."""
        return float(np.median([run.seconds for run in self.chosen]))

    @property
    def diverged(self) -> int:
        """Number of chosen runs whose loss or weights stopped being finite."""
        return sum(run.diverged for run in self.chosen)

    def by_layer(self, pick: Callable[[Examination], Sequence[float]], *, trained: bool = False) -> list[float]:
        """Median over the seeds for each hidden layer."""
        rows = [pick(e) for e in self._counted(trained=trained)]
        return [float(value) for value in np.median(rows, axis=0)] if rows else []

    def by_epoch(self, epochs: int = 0) -> list[float]:
        """Median validation accuracy by epoch, so many at least; a training that ended counts on with its last."""
        last = max(epochs, *self.epochs)
        series = [
            [*run.validation_accuracy, *[run.validation_accuracy[-1]] * (last - len(run.validation_accuracy))]
            for run in self.chosen
        ]
        return [float(value) for value in np.median(series, axis=0)]

    def _median(self, pick: Callable[[Examination], float], *, trained: bool = False) -> float:
        values = [pick(e) for e in self._counted(trained=trained)]
        finite = [value for value in values if math.isfinite(value)]
        return float(np.median(finite)) if finite else math.nan

    def _counted(self, *, trained: bool) -> list[Examination]:
        lost = {run.seed for run in self.chosen if run.diverged} if trained else set()
        return [e for e in self.examinations if e.seed not in lost]


@dataclass(frozen=True)
class StudyResult:
    """Everything: settings, data, machine, rows, and the lines about what was left out."""

    settings: Settings
    data: dict[str, Any]
    machine: dict[str, Any]
    rows: tuple[RowResult, ...]
    left_out: tuple[str, ...]
    workers: int
    seconds: float

    @property
    def chosen(self) -> tuple[Run, ...]:
        """The runs at the chosen learning rates of all rows."""
        return tuple(run for row in self.rows for run in row.chosen)

    @property
    def not_flat(self) -> int:
        """Number of chosen runs whose validation was not flat after the last epoch."""
        return sum(not self.settings.flat(run.validation_accuracy) for run in self.chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python for JSON; what is not a finite number becomes None."""
        summary = (
            "validation_accuracy",
            "test_accuracy",
            "silent_before",
            "silent_after",
            "gradient_ratio",
            "mean_over_std_before",
            "mean_over_std_after",
            "seconds",
            "diverged",
        )
        rows = [
            {
                **dataclasses.asdict(result.row),
                "initialization_scale": result.row.scale,
                "learning_rate": result.learning_rate,
                "learning_rates": result.learning_rates,
                "learning_rate_edge": result.edge,
                "epochs": result.epochs,
                **{name: getattr(result, name) for name in summary},
                "test_accuracy_range": [min(result.test_accuracies), max(result.test_accuracies)],
                "runs": [dataclasses.asdict(run) for run in result.runs],
                "examinations": [dataclasses.asdict(examination) for examination in result.examinations],
            }
            for result in self.rows
        ]
        plain: dict[str, Any] = to_plain(
            {
                "network": self.settings.called,
                "training": self.settings.length,
                "runs_not_flat": self.not_flat if self.settings.patience else None,
                **dataclasses.asdict(self),
                "rows": rows,
            }
        )
        return plain
