"""Tasks side by side through joblib: in processes of this machine, or on a cluster by its Dask backend.

Each task runs on one thread. Such small matrices gain nothing from more threads, and the numbers do not depend on how
many workers there were.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu import __version__
from leakyrelu._extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Task = tuple[Any, Callable[..., Any], tuple[Any, ...]]
    Spread = Callable[[Iterable[Task]], Iterator[tuple[Any, Any]]]

_PATIENCE = 10  # seconds until a scheduler that does not answer is given up


class SchedulerError(RuntimeError):
    """A Dask cluster that cannot be used; the message names its address, the cause and the remedy."""


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Spread]:
    """Yield a function that runs tasks (key, function, arguments) and yields (key, result) as each one is over.

    With one worker no process is started. The others end with this context, with an interrupt and with their parent.
    """
    joblib = require("joblib", by="leakyrelu.study")
    if workers == 1:
        yield lambda tasks: _results(joblib, tasks, backend="sequential")
        return
    loky = require("joblib.externals.loky", by="leakyrelu.study")
    # Started later, where SIGINT is blocked, they would unblock it.
    for tracker in ("joblib.externals.loky.backend.resource_tracker", "multiprocessing.resource_tracker"):
        require(tracker, by="leakyrelu.study").ensure_running()
    try:
        yield lambda tasks: _results(
            joblib,
            tasks,
            backend="loky",
            n_jobs=workers,
            mmap_mode="c",  # PyTorch warns of arrays that cannot be written
            initializer=_start_worker,
            initargs=(os.getpid(),),
        )
    except BaseException:
        # An interrupt must not wait for the trainings under way.
        loky.get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
        raise
    loky.get_reusable_executor(reuse=True).shutdown(wait=True)


@contextlib.contextmanager
def cluster(address: str) -> Iterator[tuple[Spread, int]]:
    """Yield the function of `processes` for the workers of a Dask scheduler, and the number of their threads.

    Raises
    ------
    SchedulerError
        The scheduler cannot be reached, has no worker, or a worker lacks this version of the package.
    """
    joblib, distributed = (require(name, by="--scheduler") for name in ("joblib", "distributed"))
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(distributed.Client(address, timeout=_PATIENCE))
        except (OSError, ValueError, TypeError) as error:
            cause = " ".join(str(error).split())
            raise SchedulerError(
                f"the scheduler {address} cannot be reached ({cause}): start one with 'dask scheduler', whose output "
                "names its address"
            ) from None
        threads = client.nthreads()
        if not threads:
            raise SchedulerError(f"the scheduler {address} has no workers: start them with 'dask worker {address}'")
        _check_versions(client, address)
        # The backend is registered by this call alone, and finds the client that was opened last.
        stack.enter_context(joblib.parallel_config("dask", n_jobs=-1))
        yield lambda tasks: _results(joblib, tasks), sum(threads.values())


def _check_versions(client: Any, address: str) -> None:
    remedy = f"install leakyrelu {__version__} with its extra 'study' where 'dask worker' runs"
    try:
        found = client.run(require("importlib.metadata", by="--scheduler").version, "leakyrelu")
    except ImportError:  # PackageNotFoundError
        raise SchedulerError(f"a worker of the scheduler {address} has no leakyrelu: {remedy}") from None
    for worker, version in found.items():
        if version != __version__:
            raise SchedulerError(f"the worker {worker} of the scheduler {address} has leakyrelu {version}: {remedy}")


def _results(joblib: Any, tasks: Iterable[Task], **options: Any) -> Iterator[tuple[Any, Any]]:
    parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, **options)
    with _sigint_blocked():
        results: Iterator[tuple[Any, Any]] = parallel(joblib.delayed(_work)(*task) for task in tasks)
    return results


def _work(key: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return key, function(*arguments)
    finally:
        torch.set_num_threads(before)


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


def _start_worker(parent: int) -> None:
    """Initialize a worker: it ends with its parent, however that ends."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
