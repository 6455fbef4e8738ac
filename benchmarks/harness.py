"""Interleaved timing: every contestant in the same process, in turn, again and again."""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Contestants = Mapping[str, Callable[[], object]]

# A block is long enough that the clock does not count. Before it, a pause lets the thread pools of the contestant
# before fall asleep: those of PyTorch and ONNX Runtime keep the other core spinning for more than 20 ms, which would be
# charged to whoever comes next. Then a warm-up wakes the contestant's own.
BLOCK_SECONDS = 0.006
SETTLE_SECONDS = 0.08
WARM_UP_SECONDS = 0.005
LONG_CALL_SECONDS = 0.05


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
    order = list(contestants)
    gc.collect()
    gc.disable()
    try:
        for round_ in range(repeats):
            shift = round_ % len(order)
            for name in order[shift:] + order[:shift]:
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
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}
