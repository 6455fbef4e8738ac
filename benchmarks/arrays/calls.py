"""Part ``calls``: what one call of one element costs, and what the import costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

import leakyrelu
from benchmarks import harness
from benchmarks.storage import Timing


def small_calls(repeats: int) -> dict[str, Timing]:
    """Seconds a call: one element through the public functions, beside what users would write."""
    x = np.array([-1.5], np.float32)
    out = np.empty_like(x)
    tensor = torch.tensor([-1.5])

    def three_lines(value: float, alpha: float = 0.01) -> float:
        if value > 0:
            return value
        return alpha * value

    return harness.interleave(
        {
            "leakyrelu, array": lambda: leakyrelu.leaky_relu(x, 0.01),
            "leakyrelu, array, out=": lambda: leakyrelu.leaky_relu(x, 0.01, out=out),
            "leakyrelu, NumPy ufunc underneath": lambda: leakyrelu._core.leaky_relu(x, 0.01),
            "NumPy maximum(x, 0.01 * x)": lambda: np.maximum(x, 0.01 * x),
            "PyTorch leaky_relu": lambda: torch.nn.functional.leaky_relu(tensor, 0.01),
            "leakyrelu, Python float": lambda: leakyrelu.leaky_relu(-1.5),
            "Python function of three lines": lambda: three_lines(-1.5),
        },
        repeats,
        threads=False,
    )


def import_seconds(repeats: int) -> dict[str, Timing]:
    """Seconds to import, in fresh interpreters, interleaved, and what leakyrelu adds to NumPy."""
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    times: dict[str, list[float]] = {"numpy": [], "leakyrelu": []}
    for round_ in range(2 * repeats + 2):
        for name, values in times.items():
            done = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=True)
            if round_ > 0:  # the first one reads from the disk
                values.append(float(done.stdout))
    added = [ours - numpy for ours, numpy in zip(times["leakyrelu"], times["numpy"], strict=True)]
    return {f"import {name}": Timing.of(values) for name, values in times.items()} | {
        "leakyrelu over numpy": Timing.of(added)
    }
