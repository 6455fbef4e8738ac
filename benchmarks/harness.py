"""Interleaved timing: every contestant in the same process, in turn, again and again."""

from __future__ import annotations

import gc
import mmap
import os
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Contestants = Mapping[str, Callable[[], object]]

# A block is long enough that the clock does not count. Before it, a pause lets the thread pools of the contestant
# before fall asleep: those of PyTorch and ONNX Runtime keep the other core spinning for more than 20 ms, which would be
# charged to whoever comes next. Then a warm-up wakes the contestant's own.
BLOCK_SECONDS = 0.006
SETTLE_SECONDS = 0.08
WARM_UP_SECONDS = 0.005
LONG_CALL_SECONDS = 0.05

# What stays untouched when a virtual machine is made to bring in its memory: room for the other processes.
SPARE_BYTES = 3 * 2**30
BRING_IN_FROM = 20
BLOCK_BYTES = 2**26
# Of more than a GiB of free pages, the host of that machine takes some back at once. With 128 MiB of them brought in,
# every 16 MiB of huge pages still met one that the host had not given, if two threads wrote them: 7 ms in place of 2.
KEPT_BYTES = 3 * 2**28


def bring_in_memory(most: int) -> int:
    """Write once into so many bytes of the machine's free memory, at most; return how many it were.

    The host of a virtual machine gives it a page when it first writes there, and takes free ones back within seconds
    (free page reporting). On the machine of the committed results that made a first write take 3 s a GiB, where one to
    a page that the host had left took 0.1: whoever of the contestants happened to get such pages would be charged for
    them. What was freed last is given out first.
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


def turns(names: Iterable[str], rounds: int) -> Iterator[str]:
    """Each name once a round, and each round begun by another; meanwhile nobody collects garbage."""
    order = list(names)
    gc.collect()
    gc.disable()
    try:
        for round_ in range(rounds):
            shift = round_ % max(1, len(order))
            yield from order[shift:] + order[:shift]
    finally:
        gc.enable()


def interleave(
    contestants: Contestants,
    repeats: int = 7,
    *,
    threads: bool = True,
    memory: int = 0,
    prepare: Contestants | None = None,
) -> dict[str, float]:
    """Median seconds a call of each contestant over `repeats` rounds; in each round each has one block of calls.

    Without `threads`, no contestant uses more than one, and nobody waits for pools to fall asleep. Before each block,
    `memory` bytes are brought in, and what `prepare` has for the contestant is called.
    """
    prepare = prepare or {}
    per_call: dict[str, float] = {}
    for name, run in contestants.items():
        if name in prepare:
            prepare[name]()
        run()  # compile, allocate, touch
        count, taken = _calls_within(run, WARM_UP_SECONDS)
        per_call[name] = taken / count
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for name in turns(contestants, repeats):
        run = contestants[name]
        calls = max(1, int(BLOCK_SECONDS / per_call[name]))
        bring_in_memory(memory)
        if name in prepare:
            prepare[name]()
        if threads:
            time.sleep(SETTLE_SECONDS)
        if per_call[name] < LONG_CALL_SECONDS:
            _calls_within(run, WARM_UP_SECONDS)
        start = time.perf_counter()
        for _ in range(calls):
            run()
        times[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(values) for name, values in times.items()}
