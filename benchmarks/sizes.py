"""Part ``sizes``: one operation over all sizes, every peer and the limit in the same run."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypedDict

from benchmarks import harness, peers

if TYPE_CHECKING:
    from collections.abc import Iterable


class Row(TypedDict):
    """Median seconds a call of one contestant."""

    operation: str
    dtype: str
    mode: str
    n: int
    name: str
    seconds: float


def measure(
    operation: str, dtype: str, modes: Iterable[str], powers: Iterable[int], repeats: int, only_ours: bool = False
) -> list[Row]:
    rows: list[Row] = []
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
        memory = harness.KEPT_BYTES if power >= harness.BRING_IN_FROM else 0
        for name, seconds in harness.interleave(calls, rounds, threads=power >= 14, memory=memory).items():
            rows.append(
                {"operation": operation, "dtype": dtype, "mode": mode, "n": n, "name": name, "seconds": seconds}
            )
        print(f"  {operation} {dtype} {mode:8} 2^{power:<2}", _summary(rows, n, mode), flush=True)
    return rows


def _summary(rows: list[Row], n: int, mode: str) -> str:
    here = [row for row in rows if row["n"] == n and row["mode"] == mode]
    ours = min(row["seconds"] for row in here if row["name"].startswith(peers.OURS))
    others = sorted((row["seconds"], row["name"]) for row in here if not row["name"].startswith(peers.OURS))
    text = f"ours {ours * 1e6:10.2f} us"
    return text + "".join(f" | {name} x{seconds / ours:.2f}" for seconds, name in others[:4])
