"""Part ``threads``: the forward pass on one thread and on all, in turn, on the same memory."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import leakyrelu
from benchmarks import harness
from benchmarks.arrays import peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.arrays.sizes import Measurement

MODES = ("out", "fresh", "in place")


def measure(powers: Iterable[int], repeats: int) -> list[Measurement]:
    """Seconds of float32 by number of threads."""
    found: list[Measurement] = []
    before = leakyrelu.get_num_threads()
    try:
        for mode, power in itertools.product(MODES, powers):
            n = 2**power
            call = peers.OPERATIONS["forward"](n, "float32", mode)[peers.OURS]
            prepare = {str(count): functools.partial(leakyrelu.set_num_threads, count) for count in sorted({1, before})}
            seconds = harness.interleave(
                dict.fromkeys(prepare, call),
                repeats,
                memory=harness.PREFAULT_BYTES if power >= harness.PREFAULT_FROM else 0,
                prepare=prepare,
            )
            found.append({"operation": "forward", "dtype": "float32", "mode": mode, "n": n, "seconds": seconds})
            text = ", ".join(f"{name}: {timing.median * 1e6:.2f} us" for name, timing in seconds.items())
            print(f"  threads {mode:8} 2^{power:<2} {text}", flush=True)
    finally:
        leakyrelu.set_num_threads(before)
    return found
