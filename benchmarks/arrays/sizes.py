"""Part ``sizes``: one operation over all sizes, every peer and the limit in the same run."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypedDict

from benchmarks import harness
from benchmarks.arrays import peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.storage import Timing


class Measurement(TypedDict):
    """Seconds a call of each candidate for one operation, dtype, way of giving output, and number of elements."""

    operation: str
    dtype: str
    mode: str
    n: int
    seconds: dict[str, Timing]


def measure(
    operation: str, dtype: str, modes: Iterable[str], powers: Iterable[int], repeats: int, only_ours: bool = False
) -> list[Measurement]:
    found: list[Measurement] = []
    for mode, power in itertools.product(modes, powers):
        n = 2**power
        calls = peers.OPERATIONS[operation](n, dtype, mode)
        if only_ours:
            calls = {name: call for name, call in calls.items() if name.startswith(peers.OURS)}
        elif operation == "forward":
            calls |= peers.limit(n, dtype, mode)
        if not calls:
            continue
        rounds = max(3, repeats // 2) if power >= 26 else repeats
        memory = harness.PREFAULT_BYTES if power >= harness.PREFAULT_FROM else 0
        seconds = harness.interleave(calls, rounds, threads=power >= 14, memory=memory)
        found.append({"operation": operation, "dtype": dtype, "mode": mode, "n": n, "seconds": seconds})
        print(f"  {operation} {dtype} {mode:8} 2^{power:<2}", _summary(seconds), flush=True)
    return found


def _summary(seconds: dict[str, Timing]) -> str:
    ours = min(timing.median for name, timing in seconds.items() if name.startswith(peers.OURS))
    others = sorted((timing.median, name) for name, timing in seconds.items() if not name.startswith(peers.OURS))
    text = f"ours {ours * 1e6:10.2f} us"
    return text + "".join(f" | {name} x{median / ours:.2f}" for median, name in others[:4])
