"""The oracles import nothing of the package that they check."""

from __future__ import annotations

import ast

import pytest
from support import ROOT


def imported(source):
    """The top-level packages that a module imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "oracle" if node.level else node.module.split(".")[0]


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "oracle").glob("**/*.py")), ids=lambda path: path.stem)
def test_imports_nothing_of_leakyrelu(path):
    allowed = {"__future__", "dataclasses", "fractions", "ml_dtypes", "numpy", "operator", "oracle", "typing"}
    assert set(imported(path.read_text())) <= allowed


@pytest.mark.parametrize("line", ["import leakyrelu.slope", "from leakyrelu import x", "from leakyrelu.torch import y"])
def test_that_an_import_is_seen(line):
    assert "leakyrelu" in set(imported(f"def f():\n    {line}\n"))
