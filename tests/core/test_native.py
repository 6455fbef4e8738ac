"""The builds that Python's own tests do not reach: the sanitizers, and the kernels of arm64 under an emulator.

A short part of what ``make sanitize`` and ``make arm64`` run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from oracle.binary import BINARY64
from support import ROOT, need

pytestmark = pytest.mark.long


def run(*command, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_core_under_the_address_and_undefined_behavior_sanitizers():
    # `make sanitize` runs the values of every length and layout; here, every path through the core once.
    chosen = "not every_length and not fork and not battery and not past_the_cache and not long_runs and not bits"
    chosen += " and not daemons and not warnings and not special_value and not against_numpy"
    files = "tests/core/test_kernels.py tests/core/test_threads.py "
    files += "tests/arrays/test_arrays.py tests/arrays/test_function_objects.py tests/arrays/test_misuse.py "
    files += "tests/arrays/test_outputs.py tests/arrays/test_signs.py "
    files += "tests/core/test_tensor_addresses.py tests/core/test_norm_kernels.py tests/core/test_census_kernel.py"
    done = run("tools/sanitize", "-q", "-k", chosen, TESTS=files)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "passed" in done.stdout


def test_pool_under_the_thread_sanitizer():
    done = run("tools/battery", "threads", "--short")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "no difference" in done.stdout


def test_arm64_kernels_under_an_emulator():
    for program in ("aarch64-linux-gnu-g++", "qemu-aarch64"):
        need(program, packages="g++-aarch64-linux-gnu qemu-user")
    done = run("tools/battery", "arm64", "--short")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "neon:" in done.stdout


def test_a_part_of_the_exhaustive_comparison():
    done = run(sys.executable, "tests/native/exhaustive.py", "--every", "256")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16,777,216 float32 values" in done.stdout
    assert "No difference" in done.stdout


def test_the_exhaustive_comparison_can_fail():
    code = (
        "import runpy, numpy, leakyrelu; "
        "leakyrelu.leaky_relu_backward = lambda g, x, a: numpy.where(x > 0, g, numpy.float32(a) * g) + 0; "  # -0 to +0
        "runpy.run_path('tests/native/exhaustive.py', run_name='__main__')"
    )
    done = run(sys.executable, "-c", code, COLUMNS="200")
    assert done.returncode != 0
    assert "different: backward, alpha -0.5, bits 0x00000000 and on" in done.stderr


def test_what_is_missing_for_arm64_is_named(tmp_path):
    for program in ("sh", "dirname", "mkdir"):
        (tmp_path / program).symlink_to(shutil.which(program))
    done = run("tools/battery", "arm64", PATH=str(tmp_path))
    assert done.returncode == 3
    assert "apt-get install g++-aarch64-linux-gnu qemu-user" in done.stderr


def test_arithmetic_of_the_binary128_oracle_with_the_widths_of_float64():
    rng = np.random.default_rng(0)
    special = np.array(
        [0, 1, 1 << 52, (1 << 52) - 1, BINARY64.infinity, BINARY64.infinity - 1, BINARY64.nan], np.uint64
    )
    numbers = np.concatenate(
        [
            rng.integers(0, 1 << 64, 3000, np.uint64),  # of every size
            rng.normal(size=1000).view(np.uint64),
            rng.choice(np.concatenate([special, special | np.uint64(1 << 63)]), 1000),
        ]
    )
    a, b = rng.permutation(numbers), rng.permutation(numbers)
    for ours, numpy in ((BINARY64.multiply, np.multiply), (BINARY64.divide, np.divide)):
        with np.errstate(all="ignore"):
            expected = numpy(a.view(np.float64), b.view(np.float64))
        got = np.array([ours(int(x), int(y)) for x, y in zip(a, b, strict=True)], np.uint64).view(np.float64)
        nan = np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(got), nan)
        np.testing.assert_array_equal(got[~nan].view(np.uint64), expected[~nan].view(np.uint64))
    for number in (0.1, -0.0, 3.7, float("inf"), -float("inf"), 5e-324):
        assert BINARY64.from_float(number) == int(np.float64(number).view(np.uint64))
