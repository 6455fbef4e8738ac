"""Out of memory: MemoryError, and the caller's output as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMITED = """
import resource, sys
import numpy as np
import leakyrelu
from leakyrelu import _core

# Bytes of address space beyond what is mapped by now, so that small things still fit and the next array does not.
def limit(beyond):
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + beyond, resource.RLIM_INFINITY))

MIB = 1 << 20
leakyrelu.set_num_threads(1)
x = np.full(16 * MIB // 4, -2, np.float32)
signs = np.zeros(x.size // 8, np.uint8)
{prepare}
limit(2 * MIB)
try:
    {call}
    result = "no error"
except MemoryError:
    result = "MemoryError"
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(result, {untouched})
small = np.full(3, -2.0, np.float32)
print(leakyrelu.leaky_relu(small, 0.5).tolist())
"""


def run(prepare, call, untouched="True"):
    code = LIMITED.format(prepare=prepare, call=call, untouched=untouched)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "call",
    [
        "leakyrelu.leaky_relu(x, 0.5)",
        "leakyrelu.leaky_relu_backward(x, x, 0.5)",
        "leakyrelu.leaky_relu_inverse(x, 0.5)",
        "leakyrelu.leaky_relu_with_signs(x, 0.5)",
        "leakyrelu.leaky_relu_backward_from_signs(x, signs, 0.5)",
        "_core.leaky_relu(x, 0.5)",
        "leakyrelu.leaky_relu(x[::2], 0.5)",
        "leakyrelu.leaky_relu(x.reshape(4, -1), np.ones((4, 1), np.float32))",
    ],
)
def test_fresh_output(call):
    assert run("", call) == ["MemoryError True", "[-1.0, -1.0, -1.0]"]


KEPT = "bool((out == 9).all())"


@pytest.mark.parametrize(
    ("prepare", "call"),
    [
        # The copies that an operand needs when it overlaps the output in another place,
        ("both = np.full(x.size + 1, 9, np.float32); out = both[1:]", "leakyrelu.leaky_relu(both[:-1], 0.5, out=out)"),
        (
            "both = np.full(x.size + 1, 9, np.float32); out = both[1:]",
            "leakyrelu.leaky_relu_with_signs(both[:-1], 0.5, out=out)",
        ),
        (
            "both = np.full(x.size + 1, 9, np.float32); out = both[1:]",
            "leakyrelu.leaky_relu_with_signs(x, both[:-1], out=out)",
        ),
        (
            "out = np.full(x.size, 9, np.float32)",
            "leakyrelu.leaky_relu_backward(out[::-1], x, 0.5, out=out)",
        ),
        # the output where it is no block,
        (
            "out = np.full(2 * x.size, 9, np.float32)[::2]",
            "leakyrelu.leaky_relu_with_signs(x, 0.5, out=out)",
        ),
        (
            "out = np.full(2 * x.size, 9, np.float32)[::2]",
            "leakyrelu.leaky_relu_backward_from_signs(x, signs, 0.5, out=out)",
        ),
        # alpha in the type that computes,
        (
            "out = np.full(x.size, 9, np.float32); alpha = np.full(x.size, 0.5)",
            "leakyrelu.leaky_relu_with_signs(x, alpha, out=out)",
        ),
        # the data in it,
        (
            "out = np.full(x.size, 9.0); whole = np.full(x.size, -2)",
            "leakyrelu.leaky_relu_with_signs(whole, 0.5, out=out)",
        ),
        # and the signs: 4 MiB here, an eighth of a byte an element.
        (
            "x = np.full(32 * MIB, -2, np.float16); out = np.full(x.size, 9, np.float16)",
            "leakyrelu.leaky_relu_with_signs(x, 0.5, out=out)",
        ),
    ],
)
def test_output_of_the_caller_is_kept(prepare, call):
    assert run(prepare, call, KEPT) == ["MemoryError True", "[-1.0, -1.0, -1.0]"]


def test_no_memory_is_needed_beside_the_output():
    """With where=, casts of whole arrays go through a small buffer, and a plain call needs nothing."""
    prepare = "out = np.full(x.size, 9.0); where = np.ones(x.size, bool); whole = np.full(x.size, -2)"
    for call in (
        "leakyrelu.leaky_relu(x, 0.5, out=out)",
        "leakyrelu.leaky_relu(whole, 0.5, out=out)",
        "leakyrelu.leaky_relu(x, 0.5, out=out, where=where)",
        "leakyrelu.leaky_relu_backward(x, whole, 0.5, out=out)",
    ):
        assert run(prepare, call, "bool((out == -1).all())") == ["no error True", "[-1.0, -1.0, -1.0]"]


def test_threads_that_cannot_be_started():
    """The caller does the work where the stack of a worker cannot be allocated."""
    prepare = "leakyrelu.set_num_threads(64); out = np.full(x.size, 9, np.float32)"
    call = "leakyrelu.leaky_relu(x, 0.5, out=out)"
    assert run(prepare, call, "bool((out == -1).all())") == ["no error True", "[-1.0, -1.0, -1.0]"]


@pytest.mark.parametrize(
    ("prepare", "call", "untouched"),
    [
        (
            "x = np.full((1, 1 << 17, 1), -2, np.float16); out = np.zeros((5, 1 << 17), np.int64); "
            "moments = np.zeros((4, 1 << 17))",
            "_core.add_census_at((0, 1, 1 << 17, 1, False, 0), 0.0, 1.0, x.ctypes.data, out, moments)",
            "not (out.any() or moments.any())",
        ),
        (
            "x = np.full((1 << 19, 4, 2), -2, np.float16); out = np.full_like(x, 9); invstd = np.ones(4, np.float32)",
            "_core.norm_forward_at((0, 1 << 19, 4, 2, False, 0), (0, True, 0.5, None, None), 1e-5, (0, 1, 1), None, "
            "x.ctypes.data, out.ctypes.data, invstd.ctypes.data)",
            KEPT,
        ),
        (
            "x = np.full((1 << 19, 4, 2), -2, np.float16); out = np.full_like(x, 9); invstd = np.ones(4, np.float32)",
            "_core.norm_backward_at((0, 1 << 19, 4, 2, False, 0), (0, True, 0.5, None, None), None, x.ctypes.data, "
            "x.ctypes.data, invstd.ctypes.data, out.ctypes.data, None, None)",
            KEPT,
        ),
        (
            "x = np.full(1 << 20, -2, np.float16); out = np.full_like(x, 9); invstd = np.ones(1 << 20, np.float32)",
            "_core.norm_forward_at((0, 1, 1 << 20, 1, True, 0), (0, True, 0.5, None, None), 1e-5, (0, 1, 1), None, "
            "x.ctypes.data, out.ctypes.data, invstd.ctypes.data)",
            KEPT,
        ),
    ],
    ids=["census", "norm_forward", "norm_backward", "norm_forward_of_many_channels"],
)
def test_memory_of_the_core_itself(prepare, call, untouched):
    """A failed allocation in C++ must not end the process: an exception may not pass through Python's frames."""
    assert run(prepare, call, untouched) == ["MemoryError True", "[-1.0, -1.0, -1.0]"]
