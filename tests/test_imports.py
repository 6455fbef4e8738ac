"""``import leakyrelu`` loads NumPy and nothing else, and each room loads no more than it needs."""

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


def test_torch_room_loads_torch_and_no_page_or_terminal():
    loaded = loaded_after("import leakyrelu.torch")
    assert "torch" in loaded
    assert loaded.isdisjoint({"sklearn", "pandas", "altair", "vl_convert", "jinja2", "rich", "typer"})


def test_this_test_can_fail():
    assert loaded_after("import leakyrelu, torch") >= {"torch"}


def test_only_numpy_comes_from_outside_the_standard_library():
    code = (
        "import sys, numpy\nbefore = set(sys.modules)\nimport leakyrelu\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["leakyrelu"]
