"""Interleaved timing: every candidate in the same process, in turn, over several rounds."""

from __future__ import annotations

import gc
import mmap
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.storage import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Candidates = Mapping[str, Callable[[], object]]

# A block is long enough that the resolution of the clock does not matter. Before it, a pause lets the thread pools of
# the previous candidate fall asleep: those of PyTorch and ONNX Runtime keep the other core spinning for more than
# 20 ms, which would be charged to the next candidate. Then a warm-up wakes the candidate's own.
BLOCK_SECONDS = 0.006
SETTLE_SECONDS = 0.08
WARM_UP_SECONDS = 0.005
LONG_CALL_SECONDS = 0.05

# What stays untouched when a virtual machine is made to provide its memory: for the other processes.
SPARE_BYTES = 3 * 2**30
PREFAULT_FROM = 20  # elements, as a power of two
BLOCK_BYTES = 2**26
# Of more than a GiB of free pages, the host of that machine takes some back at once. With 128 MiB of them touched,
# every 16 MiB of huge pages still met one that the host had not given, if two threads wrote them: 7 ms in place of 2.
PREFAULT_BYTES = 3 * 2**28


def prefault(most: int) -> int:
    """Write once into so many bytes of the machine's free memory, at most; return how many it were.

    The host of a virtual machine gives it a page when it first writes there, and takes free ones back within seconds
    (free page reporting). On the machine of the committed results that made a first write take 3 s a GiB, where one to
    a page that the host had left took 0.1, charged to any candidate that happened to get such pages. What was freed
    last is given out first.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - SPARE_BYTES
    # Of Python's default, shared memory, the system gives no huge pages.
    kind = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    blocks = [mmap.mmap(-1, BLOCK_BYTES, **kind) for _ in range(max(0, min(most, free)) // BLOCK_BYTES)]
    for block in blocks:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
        np.frombuffer(block, np.uint8)[:: mmap.PAGESIZE] = 1
    for block in blocks:
        block.close()
    return len(blocks) * BLOCK_BYTES


def _calls_within(run: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Call until `seconds` are over; return the number of calls and the time they took."""
    start = time.perf_counter()
    count = 0
    step = 1
    while True:
        for _ in range(step):
            run()
        count += step
        taken = time.perf_counter() - start
        if taken >= seconds:
            return count, taken
        step = min(2 * step, 1000)


def round_robin(names: Iterable[str], rounds: int) -> Iterator[str]:
    """Each name once a round, each round begun by another one, without garbage collection in between."""
    order = list(names)
    gc.collect()
    gc.disable()
    try:
        for round_ in range(rounds):
            shift = round_ % max(1, len(order))
            yield from order[shift:] + order[:shift]
    finally:
        gc.enable()


def calls_a_block(run: Callable[[], object]) -> tuple[int, float]:
    """Return how many calls fill a block, and about how long one takes."""
    run()  # compile, allocate, touch
    count, taken = _calls_within(run, WARM_UP_SECONDS)
    return max(1, int(BLOCK_SECONDS * count / taken)), taken / count


def block(run: Callable[[], object], calls: int, seconds: float) -> float:
    """Seconds a call over a block of calls, each of about `seconds`, after a warm-up where they are short."""
    if seconds < LONG_CALL_SECONDS:
        _calls_within(run, WARM_UP_SECONDS)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def interleave(
    candidates: Candidates,
    repeats: int = 7,
    *,
    threads: bool = True,
    memory: int = 0,
    prepare: Candidates | None = None,
) -> dict[str, Timing]:
    """Seconds a call of each candidate over `repeats` rounds; in each round each has one block of calls.

    Without `threads`, no candidate uses more than one, and there is no pause for pools to fall asleep. Before each
    block, `memory` bytes are prefaulted, and what `prepare` has for the candidate is called.
    """
    prepare = prepare or {}
    sizes: dict[str, tuple[int, float]] = {}
    for name, run in candidates.items():
        if name in prepare:
            prepare[name]()
        sizes[name] = calls_a_block(run)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for name in round_robin(candidates, repeats):
        prefault(memory)
        if name in prepare:
            prepare[name]()
        if threads:
            time.sleep(SETTLE_SECONDS)
        times[name].append(block(candidates[name], *sizes[name]))
    return {name: Timing.of(samples) for name, samples in times.items()}
