"""Every instruction set of this machine runs the whole kernel battery; impossible requests are refused by name."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from leakyrelu import _core

AVAILABLE = _core.config()["isa_available"]


def run(isa, *command):
    environment = {**os.environ, "LEAKYRELU_ISA": isa}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("isa", [isa for isa in AVAILABLE if isa != _core.config()["isa"]])
def test_kernel_battery(isa):
    batteries = [
        str(pathlib.Path(__file__).with_name(f"test_{name}.py"))
        for name in ("kernels", "norm_kernels", "prelu_kernel", "census_kernel")
    ]
    done = run(isa, "-m", "pytest", "-q", "-p", "no:cacheprovider", *batteries)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


@pytest.mark.parametrize("isa", AVAILABLE)
def test_forcing(isa):
    done = run(isa, "-c", "from leakyrelu import _core; print(_core.config()['isa'])")
    assert done.stdout.strip() == isa


@pytest.mark.parametrize("isa", ["avx1024", "AVX2", {"x86_64": "neon"}.get(os.uname().machine, "avx2")])
def test_impossible_request_is_refused_by_name(isa):
    done = run(isa, "-c", "import leakyrelu")
    assert done.returncode != 0
    assert f"LEAKYRELU_ISA={isa} is not an instruction set that this machine can run" in done.stderr
    assert f"it can run: {', '.join(AVAILABLE)}" in done.stderr
    assert "Unset LEAKYRELU_ISA" in done.stderr
