"""A study from start to end: trainings spread over workers, learning rates chosen, the chosen runs examined."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu.study.data import DataError
from leakyrelu.study.networks import check_shape
from leakyrelu.study.provenance import describe_machine
from leakyrelu.study.result import RowResult, Run, StudyResult
from leakyrelu.study.settings import Settings
from leakyrelu.study.training import examine, train
from leakyrelu.study.variants import choose_rows
from leakyrelu.study.workers import cluster, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from leakyrelu.study.data import Data
    from leakyrelu.study.result import Examination
    from leakyrelu.study.training import Weights
    from leakyrelu.study.variants import Row
    from leakyrelu.study.workers import Spread, Task

    Progress = Callable[[int, int, str], None]


_MOST_WORKERS = 8  # each holds PyTorch and a network: some 300 MB


def run_study(
    data: Data,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> StudyResult:
    """Train every row with every seed and learning rate, and examine each row at its best learning rate.

    The learning rate of a row is the one with the highest median validation accuracy over the seeds after the last
    epoch; the smaller one where two are equal. Where it is the lowest or the highest of the row, the row is trained
    with a further one on that side, as often as `Settings.extensions` allows.

    Parameters
    ----------
    data
        `digits()`, `mnist1d()` or `load(path)`.
    settings
        Network, sizes, epochs, seeds, learning rates; the defaults where left out.
    workers
        Processes. By default one for each CPU this process may use, at most 8; with 1, no process is started.
    scheduler
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``, whose workers train in place of processes of
        this machine.
    progress
        Called as ``progress(done, total, name_of_row)``, whenever a training or an examination is over; the total
        rises where a row is extended.

    Raises
    ------
    DataError
        The network cannot take samples of this shape.
    SchedulerError
        The scheduler cannot be used; the message says why.
    """
    settings = settings or Settings()
    try:
        check_shape(settings.network, data.sample_shape)
    except ValueError as error:
        raise DataError(f"{data.name}: {error}") from None
    start = time.perf_counter()
    machine = describe_machine()
    rows, left_out = choose_rows(settings.depth, settings.network)
    trainings = len(rows) * settings.seeds * len(settings.learning_rates)
    workers = min(workers or min(machine["cpus"], _MOST_WORKERS), trainings)
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            spread = stack.enter_context(processes(workers))
        else:
            spread, workers = stack.enter_context(cluster(scheduler))
        results = _Search(data, settings, rows, spread, progress or (lambda done, total, name: None)).results()
    return StudyResult(
        settings=settings,
        data={
            "name": data.name,
            "features": data.features,
            "classes": data.classes,
            "train": len(data.train.y),
            "validation": len(data.validation.y),
            "test": len(data.test.y),
        },
        machine=machine,
        rows=results,
        left_out=left_out,
        workers=workers,
        seconds=time.perf_counter() - start,
    )


class _Search:
    """The search for the learning rate of each row, and the examination of what it finds."""

    def __init__(self, data: Data, settings: Settings, rows: Sequence[Row], spread: Spread, progress: Progress) -> None:
        self.data, self.settings, self.rows, self.spread, self.progress = data, settings, rows, spread, progress
        self.runs: list[list[Run]] = [[] for _ in rows]
        self.weights: list[dict[tuple[int, float], Weights]] = [{} for _ in rows]
        self.done, self.total = 0, len(rows) * settings.seeds  # the examinations

    def results(self) -> tuple[RowResult, ...]:
        """Train in rounds, the next one for the rows whose best lies at an edge, then examine the best of each."""
        wanted = {number: list(self.settings.learning_rates) for number in range(len(self.rows))}
        for _ in range(self.settings.extensions + 1):
            self._train(wanted)
            wanted = {
                number: [rate] for number, runs in enumerate(self.runs) if (rate := self._upcoming(runs)) is not None
            }
            if not wanted:
                break
        examinations: list[list[Examination]] = [[] for _ in self.rows]
        for number, examination in self._finished(self._examinations()):
            examinations[number].append(examination)
        return tuple(
            RowResult(
                row=row,
                width=self.settings.width,
                learning_rate=best_learning_rate(self.runs[number]),
                runs=tuple(sorted(self.runs[number], key=lambda run: (run.learning_rate, run.seed))),
                examinations=tuple(sorted(examinations[number], key=lambda examination: examination.seed)),
            )
            for number, row in enumerate(self.rows)
        )

    def _train(self, wanted: dict[int, list[float]]) -> None:
        seeds = range(self.settings.seeds)
        tasks: list[Task] = [
            (number, train, (self.data, self.settings, self.rows[number], seed, rate))
            for number, rates in wanted.items()
            for rate in rates
            for seed in seeds
        ]
        self.total += len(tasks)
        for number, (run, weights) in self._finished(tasks):
            self.runs[number].append(run)
            self.weights[number][run.seed, run.learning_rate] = weights
            self._forget(number)

    def _forget(self, number: int) -> None:
        """Drop the weights of a row that lost: all of them at once could be too many for a wide network."""
        rates = [run.learning_rate for run in self.runs[number]]
        complete = {rate for rate in rates if rates.count(rate) == self.settings.seeds}
        if complete:
            best = best_learning_rate([run for run in self.runs[number] if run.learning_rate in complete])
            for seed, rate in list(self.weights[number]):
                if rate in complete - {best}:
                    del self.weights[number][seed, rate]

    def _upcoming(self, runs: list[Run]) -> float | None:
        return self.settings.next_rate({run.learning_rate for run in runs}, best_learning_rate(runs))

    def _examinations(self) -> Iterator[Task]:
        for number, row in enumerate(self.rows):
            best = best_learning_rate(self.runs[number])
            for seed in range(self.settings.seeds):
                yield number, examine, (self.data, self.settings, row, seed, self.weights[number][seed, best])

    def _finished(self, tasks: Any) -> Iterator[tuple[int, Any]]:
        for number, result in self.spread(tasks):
            self.done += 1
            self.progress(self.done, self.total, self.rows[number].name)
            yield number, result


def best_learning_rate(runs: list[Run]) -> float:
    """Return the learning rate with the highest median validation accuracy; the smallest among equals."""
    rates = sorted({run.learning_rate for run in runs})
    medians = [np.median([r.validation_accuracy[-1] for r in runs if r.learning_rate == rate]) for rate in rates]
    return rates[int(np.argmax(medians))]
