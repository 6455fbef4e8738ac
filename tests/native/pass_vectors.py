"""Writes the vectors of the kernels of normalization, the census and learned slopes that ``passes.cpp`` runs.

    PYTHONPATH=tests python tests/native/pass_vectors.py OUT [--short]

Data in every dtype of these kernels, and the results of NumPy in float64 (``oracle/passes.py``).
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from oracle import passes, reference

# samples, channels, positions: around vector and tile widths, several pieces, folded rows with a rest, and nothing.
NORM_SHAPES = [
    *((1, 1, 1), (2, 3, 1), (3, 5, 7), (2, 16, 33), (1, 300, 130), (2, 7, 1025), (1, 1, 255), (1, 256, 3)),
    *((2, 0, 3), (0, 3, 2), (2, 3, 0), (2, 0, 1), (0, 0, 0)),
]
LONG_NORM_SHAPES = [(1, 2, 100_000), (3, 257, 64), (2, 24, 9000)]
CENSUS_SHAPES = [
    *((3, 1, 1), (1, 5, 1), (100, 17, 1), (70, 8, 1), (40, 5, 7), (9, 3, 31), (5, 6, 32), (1, 20, 300), (3, 1, 65)),
    (0, 3, 2),
]
LONG_CENSUS_SHAPES = [(3, 4, 60_000), (20_000, 16, 1), (512, 40, 9)]
# Around vector and tile widths, as one run and as rows; several pieces, and bits that begin anywhere in a byte.
PRELU_WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 256, 257, 511, 513)
PRELU_SHAPES = [
    *((1, 1, n) for n in PRELU_WIDTHS),
    *((1, n, 3) for n in PRELU_WIDTHS[1:]),
    *((2, 3, 1), (3, 5, 7), (2, 16, 33), (1, 300, 130), (2, 7, 1025), (0, 3, 2), (2, 3, 0)),
]
SHORT_PRELU_SHAPES = [*PRELU_SHAPES[2:-7:6], (2, 3, 1), (3, 5, 7), (2, 16, 33), (0, 3, 2)]
LONG_PRELU_SHAPES = [(1, 1, 100_003), *LONG_NORM_SHAPES]
RULES = [(0.0, np.inf), (0.0, 1.5), (-0.5, np.inf), (0.25, 0.75)]
NORM, CENSUS, PRELU = range(3)


def norm_case(index, dtype, shape, last, whole):
    rng = np.random.default_rng(index + sum(shape))
    samples, channels, _ = shape
    tables = rng.normal(size=(4, 1 if whole else samples, channels))
    alpha = 0.2

    def data(values):
        """In memory order, and what the dtype makes of it."""
        kept = values.astype(dtype)
        memory = np.swapaxes(kept, 1, 2) if last else kept
        return memory.tobytes(), kept.astype(np.float64)

    x_memory, x = data(rng.normal(0.5, 2, shape))
    grad_memory, grad = data(rng.normal(0.5, 2, shape))
    y_memory, y = data(passes.norm_activate(x, *tables[:3], alpha))
    results = passes.norm_passes(x, grad, y, tables, alpha, passes.NORM_TOLERANCES[dtype.name])
    header = np.array([NORM, index, *shape], np.int64)
    yield from (header.tobytes(), x_memory, np.array([last, tables.shape[1]], np.int64).tobytes())
    yield from (np.float64(alpha).tobytes(), grad_memory, y_memory, tables.tobytes())
    for name in ("mean", "squares", "activated", "sum_h", "sum_hu", "combined"):
        for array in results[name]:
            per_element = last and name in ("activated", "combined")
            yield (np.swapaxes(array, 1, 2) if per_element else array).astype(np.float64).tobytes()


def census_case(index, dtype, shape, rule, special):
    rng = np.random.default_rng(index + sum(shape))
    x = (2 * rng.standard_normal(shape) + rng.standard_normal((1, shape[1], 1))).astype(dtype)
    if special:
        x.flat[::7], x.flat[3::11], x.flat[::13], x.flat[::5] = np.nan, np.inf, -np.inf, -0.0
    counts, moments = passes.census(x, *rule)
    header = np.array([CENSUS, index, *shape], np.int64)
    yield from (header.tobytes(), x.tobytes(), np.array(rule).tobytes(), counts.astype(np.int64).tobytes())
    yield from (moments.tobytes(), (1e-12 + 1e-11 * np.abs(moments)).tobytes())


def prelu_case(index, dtype, shape, last):
    rng = np.random.default_rng(index + sum(shape))
    channels = shape[1]
    x, grad = (reference.samples(dtype, np.prod(shape), rng.integers(1 << 30)).reshape(shape) for _ in range(2))
    for values in (x, grad):  # no products and sums that leave the range of the type that computes
        values[np.isfinite(values) & (np.abs(values.astype(np.float64)) > 1e6)] = 3
    # Nothing but ordinary numbers in every second channel, so that its sum is one.
    x[:, ::2], grad[:, ::2] = (rng.normal(scale=2, size=x[:, ::2].shape).astype(dtype) for _ in range(2))
    slopes = np.tile([0.25, -0.5, 3.7, 0.0, 1.0, 0.01, -0.0, np.inf], -(-channels // 8))[:channels]
    tables = np.stack((slopes, 1 + rng.random(channels)))
    forward, backward = passes.prelu_passes(x, grad, [None, rng.random(shape) < 0.5], *tables)

    def memory(array):
        return np.swapaxes(array, 1, 2) if last else array

    header = np.array([PRELU, index, *shape], np.int64)
    yield from (header.tobytes(), memory(x).tobytes(), np.int64(last).tobytes(), memory(grad).tobytes())
    yield from (tables.tobytes(), memory(forward).tobytes())
    for positive, out, sums, magnitude in backward:
        yield np.packbits(memory(positive), bitorder="little").tobytes()
        yield from (memory(out).tobytes(), sums.tobytes())
        tiny = np.finfo(reference.compute_dtype(dtype)).tiny  # beneath it, an error is not relative
        yield (magnitude * (1e-14 if dtype == np.float64 else 3e-6) + float(tiny)).tobytes()


def all_cases(short):
    norm_shapes = [*NORM_SHAPES, *LONG_NORM_SHAPES[:1]] if short else [*NORM_SHAPES, *LONG_NORM_SHAPES]
    census_shapes = [*CENSUS_SHAPES, *LONG_CENSUS_SHAPES[:1]] if short else [*CENSUS_SHAPES, *LONG_CENSUS_SHAPES]
    for index, dtype in enumerate(reference.DTYPES[:4]):
        for shape, last in itertools.product(norm_shapes, (False, True)):
            for whole in (True, False) if shape[0] > 1 else (True,):
                yield norm_case(index, dtype, shape, last, whole)
        for shape, rule, special in itertools.product(census_shapes, RULES[:2] if short else RULES, (False, True)):
            yield census_case(index, dtype, shape, rule, special)
        prelu_shapes = SHORT_PRELU_SHAPES if short else [*PRELU_SHAPES, *LONG_PRELU_SHAPES]
        for shape, last in itertools.product(prelu_shapes, (False, True)):
            yield prelu_case(index, dtype, shape, last)


def write(path, short=False):
    cases = [b"".join(case) for case in all_cases(short)]
    with open(path, "wb") as file:
        file.write(np.int64(len(cases)).tobytes())
        file.writelines(cases)
    return len(cases)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--short", action="store_true", help="fewer shapes")
    arguments = parser.parse_args()
    print(f"{write(arguments.out, arguments.short)} passes in {arguments.out}")
