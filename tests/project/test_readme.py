"""The examples of the README run, in order, each in a fresh namespace; its links and figures lead somewhere."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from support import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"\*\*(\w+)\.\*\*.*?```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_is_one_example_a_verb():
    assert [verb for verb, _ in EXAMPLES] == ["Compute", "Train", "Diagnose", "Choose"]


@pytest.mark.parametrize(("verb", "code"), EXAMPLES, ids=[verb for verb, _ in EXAMPLES])
def test_example(verb, code):
    namespace = {}
    exec(compile(code, f"README, {verb}", "exec"), namespace)


@pytest.mark.parametrize(("verb", "code"), EXAMPLES, ids=[verb for verb, _ in EXAMPLES])
def test_what_the_comments_say(verb, code):
    """A line whose comment starts with a number or a list is an expression with that value."""
    namespace = {}
    checked = 0
    for line in code.splitlines():
        statement, _, comment = line.partition("  #")
        claimed = re.match(r"\s*(\[[^\]]*\]|\d+\.\d+)", comment)
        if claimed and not re.match(r"\s*[\w.]+\s*=", statement):
            value = eval(statement, namespace)
            np.testing.assert_allclose(np.asarray(value, float), np.asarray(eval(claimed[1]), float), atol=6e-4)
            checked += 1
        else:
            exec(statement, namespace)
    assert checked or verb == "Train"


def test_links_lead_to_files():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


RESULTS = ROOT / "benchmarks/results/amd-epyc-25-17-x2"
TRAINING = (RESULTS / "torch.md").read_text()


def networks():
    """Shares of bytes and of time of our networks, of PyTorch in place, from least to most."""
    rows = [row.strip("| ").split(" | ") for row in TRAINING.splitlines() if " | leakyrelu | " in row and "x" in row]
    assert len(rows) == 4
    return tuple(sorted(float(row[column]) for row in rows) for column in (4, -1))


def test_figures_are_those_of_the_committed_results():
    results = (RESULTS / "array.md").read_text()
    training = {f"{values[0]:.2f} to {values[-1]:.2f}" for values in networks()}
    figures = re.findall(r"\d+\.\d\d to \d+\.\d\d", README)
    assert len(figures) >= 8
    assert [figure for figure in figures if figure not in results and figure not in training] == []
    assert training <= set(figures)
    one, numpy, torch = re.search(r"takes (\d+) ns, where `[^`]*` takes (\d+) and PyTorch (\d+)", README).groups()
    assert f"| leakyrelu, array | {one} |" in results
    assert f"| NumPy maximum(x, 0.01 * x) | {numpy} |" in results
    assert f"| PyTorch leaky_relu | {torch} |" in results


def test_the_page_on_memory_quotes_the_committed_results():
    page = (ROOT / "docs/memory.md").read_text()
    start = TRAINING.index("| network | input |")
    assert TRAINING[start : TRAINING.index("\n\n", start)] in page
    bars = [row.strip("| ").split(" | ") for row in TRAINING.splitlines() if row.startswith(("| lone", "| twenty"))]
    for dtype in ("float32", "float64"):
        (difference,) = [row[2] for row in bars if row[0].startswith("twenty") and dtype in row[0]]
        assert f"{difference} of their size at most in float32" in page or f"by {difference} in float64" in page
    for part, start in (("2^22 and more", "is "), ("to 2^20", "takes ")):
        found = [float(each) for row in bars if row[0].endswith(", " + part) for each in row[2].split(" to ")]
        assert f"{start}{min(found):.2f} to {max(found):.2f} times" in page


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    documents = README + (ROOT / "CONTRIBUTING.md").read_text()
    for target in re.findall(r"\bmake (\w[\w-]*)", re.sub(r"[^`$]*?(`[^`]*`|\$ [^\n]*)", r"\1\n", documents)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_costs_of_a_census_are_those_of_the_committed_results():
    rows = json.loads((ROOT / "benchmarks/results/amd-epyc-25-17-x2/watch.json").read_text())["rows"]
    section = (ROOT / "docs/diagnosis.md").read_text().partition("## What it costs")[2]
    for what, line in (("diagnose", "| `diagnose` over"), ("watch every 10", "| ten training steps")):
        cells = next(text for text in section.splitlines() if text.startswith(line)).split("|")[2:5]
        for batch, cell in zip((2, 4, 16), cells, strict=True):
            found = [row["median_ratio"] for row in rows if row["what"] == what and row["batch"][0] == batch]
            assert cell.strip() == f"{min(found):.2f} to {max(found):.2f}"
