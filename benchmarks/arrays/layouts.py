"""Part ``layouts``: strides, memory orders and slopes per channel, against the faster of NumPy's idioms."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

import leakyrelu
from benchmarks import harness

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.storage import Timing


class Measurement(TypedDict):
    """Seconds a call of each candidate for one layout."""

    layout: str
    seconds: dict[str, Timing]


def cases() -> dict[str, tuple[np.ndarray, np.ndarray | np.float32]]:
    """Make the input and the slope of each layout, about a million elements of float32 each."""
    rng = np.random.default_rng(0)
    small = np.float32(0.01)
    image = rng.standard_normal((16, 64, 32, 32), dtype=np.float32)
    slopes = rng.random(64, dtype=np.float32)
    return {
        "contiguous": (image, small),
        "Fortran order": (np.asfortranarray(image), small),
        "transposed axes": (image.transpose(0, 2, 3, 1), small),
        "every second element": (np.repeat(image, 2, axis=-1)[..., ::2], small),
        "reversed": (image[..., ::-1], small),
        "every second row": (np.repeat(image, 2, axis=-2)[..., ::2, :], small),
        "slope per channel, channels first": (image, slopes[:, None, None]),
        "slope per channel, channels last": (np.ascontiguousarray(image.transpose(0, 2, 3, 1)), slopes),
        "slope per feature (16384 x 64)": (image.reshape(16384, 64), slopes),
        "slope per element": (image, rng.random(image.shape, dtype=np.float32)),
    }


def measure(repeats: int) -> list[Measurement]:
    results: list[Measurement] = []
    for name, (x, alpha) in cases().items():
        out, scratch = np.empty_like(x), np.empty_like(x)
        fresh = harness.interleave(_fresh(x, alpha), repeats)
        into = harness.interleave(_into(x, alpha, out, scratch), repeats)
        results += [
            {"layout": f"{name}, fresh", "seconds": fresh},
            {"layout": f"{name}, caller's output", "seconds": into},
        ]
        print(f"  layout {name}", flush=True)
    return results


def _fresh(x: np.ndarray, alpha: np.ndarray | np.float32) -> dict[str, Callable[[], object]]:
    return {
        "leakyrelu": lambda: leakyrelu.leaky_relu(x, alpha),
        "NumPy maximum": lambda: np.maximum(x, alpha * x),
        "NumPy where": lambda: np.where(x > 0, x, alpha * x),
    }


def _into(
    x: np.ndarray, alpha: np.ndarray | np.float32, out: np.ndarray, scratch: np.ndarray
) -> dict[str, Callable[[], object]]:
    return {
        "leakyrelu": lambda: leakyrelu.leaky_relu(x, alpha, out=out),
        "NumPy maximum": lambda: np.maximum(x, np.multiply(x, alpha, out=scratch), out=out),
    }
