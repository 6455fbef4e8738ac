"""Interleaved timing: every contestant in the same process, in turn, again and again."""

from __future__ import annotations

import gc
import mmap
import os
import statistics
import time
from typing import TYPE_CHECKING

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
BRING_IN_FROM = 22


def bring_in_memory(powers: Iterable[int]) -> None:
    """Write once into the free memory of the machine, before sizes are measured for which it matters.

    The host of a virtual machine gives it a page when it first writes there. That took 7 s a GiB on the machine of the
    committed results, where a page that the host had given before took 0.3: whoever of the contestants happened to get
    such pages would be charged for them.
    """
    if max(powers) < BRING_IN_FROM:
        return
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - SPARE_BYTES
    blocks = [mmap.mmap(-1, 2**28) for _ in range(max(0, free) // 2**28)]
    for block in blocks:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    for block in blocks:
        block.close()
    print(f"  memory brought in: {len(blocks) / 4:g} GiB", flush=True)


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


def interleave(contestants: Contestants, repeats: int = 7, *, threads: bool = True) -> dict[str, float]:
    """Median seconds a call of each contestant over `repeats` rounds; in each round each has one block of calls.

    Without `threads`, no contestant uses more than one, and nobody waits for pools to fall asleep.
    """
    per_call: dict[str, float] = {}
    for name, run in contestants.items():
        run()  # compile, allocate, touch
        count, taken = _calls_within(run, WARM_UP_SECONDS)
        per_call[name] = taken / count
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for name in turns(contestants, repeats):
        run = contestants[name]
        calls = max(1, int(BLOCK_SECONDS / per_call[name]))
        if threads:
            time.sleep(SETTLE_SECONDS)
        if per_call[name] < LONG_CALL_SECONDS:
            _calls_within(run, WARM_UP_SECONDS)
        start = time.perf_counter()
        for _ in range(calls):
            run()
        times[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(values) for name, values in times.items()}
