"""A study from start to end: trainings spread over worker processes, learning rates chosen, the chosen ones examined.

Each training runs on one thread of one process. Such small matrices gain nothing from more threads, and the numbers
do not depend on how many workers there were.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leakyrelu.study.provenance import describe_machine
from leakyrelu.study.result import Examination, RowResult, Run, StudyResult
from leakyrelu.study.settings import Settings
from leakyrelu.study.training import examine, train
from leakyrelu.study.variants import choose_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from leakyrelu.study.data import Data
    from leakyrelu.study.variants import Row

    Progress = Callable[[int, int, str], None]
    Submit = Callable[..., Future[Any]]


_MOST_WORKERS = 8  # each holds PyTorch and a network: some 300 MB


def run_study(
    data: Data, settings: Settings | None = None, *, workers: int | None = None, progress: Progress | None = None
) -> StudyResult:
    """Train every row with every seed and learning rate, and examine each row at its best learning rate.

    The learning rate of a row is the one with the highest median validation accuracy over the seeds after the last
    epoch; the smaller one where two are equal.

    Parameters
    ----------
    data
        `digits()` or `load(path)`.
    settings
        Sizes, epochs, seeds, learning rates; the defaults where left out.
    workers
        Processes. By default one for each CPU this process may use, at most 8; with 1, no process is started. They
        are spawned, so a script that calls this with more than one needs the usual ``if __name__ == "__main__":``.
    progress
        Called as ``progress(done, total, name_of_row)``, whenever a training or an examination is over.
    """
    settings = settings or Settings()
    start = time.perf_counter()
    machine = describe_machine()
    rows, left_out = choose_rows(settings.depth)
    trainings = len(rows) * settings.seeds * len(settings.learning_rates)
    workers = min(workers or min(machine["cpus"], _MOST_WORKERS), trainings)
    with _pool(workers, data, settings) as submit:
        results = _schedule(rows, settings, submit, progress or (lambda done, total, name: None))
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


def _schedule(rows: tuple[Row, ...], settings: Settings, submit: Submit, progress: Progress) -> tuple[RowResult, ...]:
    """Queue every training, row by row, and the examinations of a row as soon as its trainings are over.

    Weights are kept only until then: all of them at once could be too many for a wide network.
    """
    pending: dict[Future[Any], int] = {}
    runs: list[list[Run]] = [[] for _ in rows]
    weights: list[dict[tuple[int, float], NDArray[np.float32]]] = [{} for _ in rows]
    examinations: list[list[Examination]] = [[] for _ in rows]
    each = settings.seeds * len(settings.learning_rates)
    total, done = len(rows) * (each + settings.seeds), 0

    def collect(future: Future[Any], number: int) -> None:
        nonlocal done
        result = future.result()
        if isinstance(result, Examination):
            examinations[number].append(result)
        else:
            run, trained = result
            runs[number].append(run)
            weights[number][run.seed, run.learning_rate] = trained
            if len(runs[number]) == each:
                best = best_learning_rate(runs[number])
                for seed in range(settings.seeds):
                    pending[submit(examine, rows[number], seed, weights[number][seed, best])] = number
                weights[number].clear()
        done += 1
        progress(done, total, rows[number].name)

    for number, row in enumerate(rows):
        for rate in settings.learning_rates:
            for seed in range(settings.seeds):
                future = submit(train, row, seed, rate)
                if future.done():
                    collect(future, number)  # without workers: work as it is queued, keep nothing
                else:
                    pending[future] = number
    while pending:
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            collect(future, pending.pop(future))

    return tuple(
        RowResult(
            row=row,
            width=settings.width,
            learning_rate=best_learning_rate(runs[number]),
            runs=tuple(sorted(runs[number], key=lambda run: (run.learning_rate, run.seed))),
            examinations=tuple(sorted(examinations[number], key=lambda examination: examination.seed)),
        )
        for number, row in enumerate(rows)
    )


def best_learning_rate(runs: list[Run]) -> float:
    """Return the learning rate with the highest median validation accuracy; the smallest among equals."""
    rates = sorted({run.learning_rate for run in runs})
    medians = [np.median([r.validation_accuracy[-1] for r in runs if r.learning_rate == rate]) for rate in rates]
    return rates[int(np.argmax(medians))]


@contextlib.contextmanager
def _pool(workers: int, data: Data, settings: Settings) -> Iterator[Submit]:
    """Yield ``submit(function, *arguments)``, which calls ``function(data, settings, *arguments)`` in a worker."""
    if workers == 1:
        with _one_thread():
            yield lambda function, *arguments: _finished(function(data, settings, *arguments))
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(workers, context, _start_worker, (data, settings))
    resource_tracker.ensure_running()  # started later, inside _sigint_blocked, it would unblock the signal

    def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        with _sigint_blocked():
            return executor.submit(_work, function, arguments)

    try:
        yield submit
    except BaseException:
        # An interrupt must not wait for the trainings under way.
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    executor.shutdown()


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT, so that workers started inside inherit the mask from their first instruction on.

    Ctrl-C reaches the whole process group, but the parent alone handles it, once the mask is lifted.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finished(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


_given: tuple[Data, Settings] | None = None


def _start_worker(data: Data, settings: Settings) -> None:
    """Initialize a worker: keep the data, which are sent once, and end with the parent, however it ends."""
    global _given
    _given = (data, settings)
    torch.set_num_threads(1)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    assert _given is not None
    return function(*_given, *arguments)
