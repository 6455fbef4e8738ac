"""All 2^32 float32 values through every operation, compared bit for bit with PyTorch and NumPy.

    python tests/native/exhaustive.py [--every N]      N: one chunk of 2^20 values in N

A result counts as equal if its bits are, or if both are NaN. ``make exhaustive`` runs it on the installed package.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import time

import numpy as np
import torch

import leakyrelu

ALPHAS = (0.01, 0.2, 0.0, 1.0, 3.7, -0.5, 1e-40)
CHUNK = 1 << 20
CHUNKS = (1 << 32) // CHUNK


def same(a, b):
    if np.array_equal(a.view(np.int32), b.view(np.int32)):
        return True
    nan = np.isnan(a)
    return bool(np.array_equal(nan, np.isnan(b)) and np.array_equal(a[~nan].view(np.int32), b[~nan].view(np.int32)))


def check(chunk):
    """The names of what differs among the values whose bits begin with ``chunk``."""
    x = (np.arange(CHUNK, dtype=np.uint32) + np.uint32(chunk * CHUNK)).view(np.float32)
    grad = x[::-1].copy()  # the same values against other signs
    mixed = np.where(np.arange(CHUNK) % 2, x, -x)
    tensor, tensor_grad, tensor_mixed = torch.from_numpy(x), torch.from_numpy(grad), torch.from_numpy(mixed)
    packed = np.packbits(x > 0, bitorder="little")
    mixed_packed = np.packbits(mixed > 0, bitorder="little")
    wrong = []

    def expect(name, alpha, ours, theirs):
        if not same(ours, theirs):
            wrong.append(f"{name}, alpha {alpha}, bits {chunk * CHUNK:#010x} and on")

    # NumPy's error state belongs to the thread.
    with np.errstate(all="ignore"), torch.no_grad():
        for alpha in ALPHAS:
            expected = torch.nn.functional.leaky_relu(tensor, alpha).numpy()
            expect("forward", alpha, leakyrelu.leaky_relu(x, alpha), expected)
            y, signs = leakyrelu.leaky_relu_with_signs(x, alpha)
            expect("forward with signs", alpha, y, expected)
            if not np.array_equal(signs, packed):
                wrong.append(f"signs, bits {chunk * CHUNK:#010x} and on")
            expected = torch.ops.aten.leaky_relu_backward(tensor_grad, tensor_mixed, alpha, False).numpy()
            expect("backward", alpha, leakyrelu.leaky_relu_backward(grad, mixed, alpha), expected)
            back = leakyrelu.leaky_relu_backward_from_signs(grad, mixed_packed, alpha)
            expect("backward from signs", alpha, back, expected)
            if alpha > 0:
                expected = np.where(x > 0, x, x / np.float32(alpha))
                expect("inverse", alpha, leakyrelu.leaky_relu_inverse(x, alpha), expected)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one chunk in N")
    every = parser.parse_args().every
    torch.set_num_threads(1)
    leakyrelu.set_num_threads(1)
    chunks = range(0, CHUNKS, every)
    begin = time.perf_counter()
    workers = len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for done, wrong in enumerate(pool.map(check, chunks), 1):
            if wrong:
                pool.shutdown(cancel_futures=True)
                raise SystemExit("different: " + "; ".join(wrong))
            if done % max(len(chunks) // 16, 1) == 0:
                print(f"{done / len(chunks):4.0%}  {time.perf_counter() - begin:6.0f} s", flush=True)
    versions = f"PyTorch {torch.__version__} and NumPy {np.__version__}"
    print(
        f"{len(chunks) * CHUNK:,} float32 values, alpha {', '.join(map(str, ALPHAS))}: forward, backward, both "
        f"with packed signs, inverse (alpha > 0). No difference from {versions}; "
        f"{leakyrelu._core.config()['isa']}, {workers} threads, {time.perf_counter() - begin:.0f} s."
    )


if __name__ == "__main__":
    main()
