"""The figures of README and docs, and the tables of results, are those of the committed results."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from support import ROOT

RESULTS = "benchmarks/results/amd-epyc-25-17-x2"


def figures(root, *arguments):
    command = [sys.executable, "-m", "benchmarks", "figures", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    """What the command reads and writes, where a test may change it."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_committed_files_are_up_to_date():
    done = figures(ROOT, "--check")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_changed_result_makes_pages_and_tables_stale(copy):
    results = copy / RESULTS / "arrays.json"
    text = results.read_text()
    shorter = re.sub(r'("leakyrelu, array": )\[[^\]]+\]', r"\1[1.25e-07]", text)
    assert shorter != text
    results.write_text(shorter)
    done = figures(copy, "--check")
    assert done.returncode == 1
    assert done.stderr == f"stale: {RESULTS}/arrays.md, README.md; run: make figures\n"
    assert "takes <!-- figure: call, leakyrelu -->332<" in (copy / "README.md").read_text()
    assert figures(copy).returncode == 0
    assert "takes <!-- figure: call, leakyrelu -->125<" in (copy / "README.md").read_text()
    assert "| leakyrelu, array | 125 |" in (copy / RESULTS / "arrays.md").read_text()
    assert figures(copy, "--check").returncode == 0


def test_an_edited_figure_is_written_again(copy):
    page = copy / "docs/memory.md"
    text = page.read_text()
    start = text.index("<!-- figure: training, networks -->")
    page.write_text(text[:start] + text[start:].replace("| 1.000 |", "| 0.001 |", 1))
    assert figures(copy, "--check").stderr == "stale: docs/memory.md; run: make figures\n"
    assert figures(copy).returncode == 0
    assert page.read_text() == text


def test_an_unknown_figure_is_named(copy):
    page = copy / "docs/memory.md"
    page.write_text(page.read_text() + "\nIt is <!-- figure: speed of light -->1<!-- /figure -->.\n")
    done = figures(copy, "--check")
    assert done.returncode == 1
    assert "memory.md quotes an unknown figure: speed of light; there are: arrays, call, NumPy" in done.stderr


def test_no_line_of_a_sentence_begins_with_a_mark():
    """Markdown would take the whole line for HTML."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    quoting = [page for page in pages if "<!-- figure: " in page.read_text()]
    assert len(quoting) >= 3
    assert [
        page.name for page in quoting if re.search("^<!-- figure: [^>]+ -->.", page.read_text(), re.MULTILINE)
    ] == []


def test_committed_results_are_compact():
    results = [*(ROOT / "benchmarks/results").rglob("*.json"), *(ROOT / "docs").glob("*.json")]
    assert len(results) >= 5
    assert [path.name for path in results if len(path.read_text().splitlines()) > 1500] == []


def test_a_study_is_shortened_to_its_medians(tmp_path):
    def run(seed, rate, accuracies, diverged=False):
        loss = [None, None] if diverged else [2.0 + seed, 1.0 + seed]
        return {"seed": seed, "learning_rate": rate, "loss": loss, "validation_accuracy": accuracies,
                "seconds": 1.0, "diverged": diverged}  # fmt: skip

    def examination(seed, norms, silent):
        return {"seed": seed, "test_accuracy": 0.5 + seed / 10, "before": {"gradient_norm": norms},
                "after": {"silent_units": silent}}  # fmt: skip

    row = {
        "name": "ReLU",
        "learning_rate": 0.1,
        "test_accuracy": 0.6,
        "runs": [
            run(0, 0.1, [0.1, 0.2]),
            {**run(1, 0.1, [0.3]), "loss": [3.0]},  # ended an epoch earlier
            run(2, 0.1, [0.5, 0.9], diverged=True),
            run(0, 9.0, [1.0, 1.0]),
        ],
        "examinations": [
            examination(0, [1.0, 2.0], [4, 8]),
            examination(1, [3.0, 4.0], [6, 10]),
            examination(2, [8.0, 9.0], [64, 64]),
        ],
    }
    full, short = tmp_path / "full.json", tmp_path / "short.json"
    full.write_text(json.dumps({"reading": "A sentence.", "rows": [row], "seconds": 3.0}))
    command = [sys.executable, "-m", "benchmarks", "study", str(full), "--save", str(short)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert json.loads(short.read_text()) == {
        "reading": "A sentence.",
        "rows": [
            {
                "name": "ReLU",
                "learning_rate": 0.1,
                "test_accuracy": 0.6,
                "test_accuracies": [0.5, 0.6, 0.7],
                "loss_by_epoch": [2.5, 2.0],
                "validation_accuracy_by_epoch": [0.3, 0.3],
                "gradient_norm_before_by_layer": [3.0, 4.0],
                "silent_units_after_by_layer": [5.0, 9.0],
            }
        ],
        "seconds": 3.0,
    }
