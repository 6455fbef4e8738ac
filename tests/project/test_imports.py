"""``import leakyrelu`` loads NumPy alone, and each package no more than it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "sklearn",
    "scipy",
    "pandas",
    "altair",
    "vl_convert",
    "jinja2",
    "rich",
    "typer",
    "jax",
    "keras",
    "onnx",
    "onnxruntime",
)


def loaded_after(statement):
    code = f"import sys\n{statement}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import leakyrelu",
        "import leakyrelu; leakyrelu.leaky_relu([-1.0])",
        "import leakyrelu.slope",
        "import leakyrelu.onnx",
    ],
)
def test_loads_no_framework(statement):
    assert loaded_after(statement) == set()


def test_torch_adapter_loads_torch_and_no_page_or_terminal():
    loaded = loaded_after("import leakyrelu.torch")
    assert "torch" in loaded
    assert loaded.isdisjoint({"sklearn", "pandas", "altair", "vl_convert", "jinja2", "rich", "typer"})


def test_that_a_loaded_framework_is_seen():
    assert loaded_after("import leakyrelu, torch") >= {"torch"}


def test_only_numpy_comes_from_outside_the_standard_library():
    code = (
        "import sys, numpy\nbefore = set(sys.modules)\nimport leakyrelu\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["leakyrelu"]


def test_the_core_may_be_imported_again():
    """After sys.modules was purged: the ufuncs of both imports support bfloat16, which is registered late."""
    code = """
import sys, numpy as np, ml_dtypes
import leakyrelu._core as first
del sys.modules["leakyrelu._core"]
import leakyrelu._core as second
assert first.leaky_relu is not second.leaky_relu
x = np.array([-1, 2], ml_dtypes.bfloat16)
for core in (first, second, first):
    assert core.leaky_relu(x, 0.5).tolist() == [-0.5, 2], core
    assert core.leaky_relu_backward(x, x, 0.5).tolist() == [-0.5, 2], core
    assert core.leaky_relu_inverse(x, 0.5).tolist() == [-2, 2], core
    try:
        core.leaky_relu_inverse(np.ones(2, complex), 0.5)
    except TypeError as error:
        assert "leaky_relu_inverse: y of type complex" in str(error), error
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
