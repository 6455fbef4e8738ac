"""Part ``threads``: the forward pass on one thread and on all, in turn, on the same memory."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import leakyrelu
from benchmarks import harness, peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.sizes import Row

MODES = ("out", "fresh", "in place")


def measure(powers: Iterable[int], repeats: int) -> list[Row]:
    """Rows of float32, named by the number of threads."""
    rows: list[Row] = []
    before = leakyrelu.get_num_threads()
    try:
        for mode, power in itertools.product(MODES, powers):
            n = 2**power
            call = peers.OPERATIONS["forward"](n, "float32", mode)[peers.OURS]
            prepare = {str(count): functools.partial(leakyrelu.set_num_threads, count) for count in sorted({1, before})}
            found = harness.interleave(
                dict.fromkeys(prepare, call),
                repeats,
                memory=harness.KEPT_BYTES if power >= harness.BRING_IN_FROM else 0,
                prepare=prepare,
            )
            for name, seconds in found.items():
                rows.append(
                    {"operation": "forward", "dtype": "float32", "mode": mode, "n": n, "name": name, "seconds": seconds}
                )
            text = ", ".join(f"{name}: {seconds * 1e6:.2f} us" for name, seconds in found.items())
            print(f"  threads {mode:8} 2^{power:<2} {text}", flush=True)
    finally:
        leakyrelu.set_num_threads(before)
    return rows
