"""The benchmark runs from end to end on small sizes, and its tables hold what was measured."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support import ROOT

import leakyrelu


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_small_run_stores_every_row(tmp_path):
    arguments = ["sizes", "calls", "threads", "instruction-sets", "--powers", "4,10,14", "--repeats", "1"]
    done = run(*arguments, "--modes", "out,in place", "--dtypes", "float32,bfloat16", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "array.json").read_text())
    for operation, dtype, mode, n in (
        ("forward", "float32", "out", 16),
        ("forward", "float32", "in place", 1024),
        ("backward", "bfloat16", "out", 1024),
        ("both", "float32", "out", 1024),
    ):
        rows = [
            row
            for row in results["sizes"]
            if (row["operation"], row["dtype"], row["mode"], row["n"]) == (operation, dtype, mode, n)
        ]
        assert any(row["name"].startswith("leakyrelu") for row in rows)
        assert all(row["seconds"] > 0 for row in rows)
    assert "PyTorch out=" in {row["name"] for row in results["sizes"]}
    assert any(row["name"].startswith("limit") for row in results["sizes"])
    assert results["machine"]["packages"]["numpy"] != "not installed"
    assert set(results["instruction_sets"]) >= {"baseline"}
    table = (tmp_path / "array.md").read_text()
    assert "### forward, float32, out" in table
    assert "share of the limit" in table
    threads = {(row["mode"], row["name"]): row["seconds"] for row in results["threads"]}
    all_ = str(leakyrelu.get_num_threads())
    assert set(threads) == {(mode, name) for mode in ("out", "fresh", "in place") for name in ("1", all_)}
    times = " | ".join(f"{threads['out', name] * 1e6:.2f}" for name in sorted({"1", all_}, key=int))
    assert f"| 2^14 | out | {times} | {threads['out', '1'] / threads['out', all_]:.2f} |" in table
    baseline = results["instruction_sets"]["baseline"][0]
    assert baseline["n"] == 2**10
    assert f"| 2^10 | {baseline['mode']} | {baseline['seconds'] * 1e6:.2f} |" in table
    for picture in ("relative.png", "limit.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_update_keeps_what_is_not_measured_again(tmp_path):
    arguments = ["--repeats", "1", "--dtypes", "float32", "--operations", "forward", "--save", str(tmp_path)]
    assert run("sizes", "--powers", "4,10", "--modes", "out", *arguments).returncode == 0
    first = json.loads((tmp_path / "array.json").read_text())
    done = run("sizes", "--powers", "10", "--modes", "out,in place", "--update", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    second = json.loads((tmp_path / "array.json").read_text())
    of = {(n, mode): [row for row in second["sizes"] if (row["n"], row["mode"]) == (n, mode)]
          for n, mode in ((16, "out"), (1024, "out"), (1024, "in place"))}  # fmt: skip
    assert of[16, "out"] == [row for row in first["sizes"] if row["n"] == 16]
    names = [row["name"] for row in of[1024, "out"]]
    assert len(names) == len(set(names)) > 3
    assert of[1024, "in place"]
    assert [each["command"] for each in second["machine"]["before"]] == [first["machine"]["command"]]


def test_new_memory_is_measured_in_a_process_of_its_own(tmp_path):
    arguments = ["sizes", "--powers", "10,18", "--repeats", "1", "--modes", "out,new", "--dtypes", "float32"]
    done = run(*arguments, "--operations", "forward,backward", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "array.json").read_text())["sizes"]
    new = {(row["operation"], row["n"]) for row in rows if row["mode"] == "new"}
    assert new == {("forward", 2**18), ("backward", 2**18)}
    assert {"leakyrelu", "PyTorch", "NumPy maximum"} <= {row["name"] for row in rows if row["mode"] == "new"}
    assert "### forward, float32, new" in (tmp_path / "array.md").read_text()


@pytest.mark.parametrize("part", ["everything", "size"])
def test_unknown_part_is_refused(part):
    done = run(part)
    assert done.returncode == 2
    assert f"unknown part: {part}; choose from sizes" in done.stderr


def test_small_run_of_training(tmp_path):
    arguments = ["torch", "lone", "--powers", "10,18", "--rounds", "2", "--no-compile", "--save", str(tmp_path)]
    for more in (["--dtypes", "float32"], ["--dtypes", "bfloat16", "--memory", "fresh"], ["--append"]):
        done = run(*arguments, *more)
        assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "torch.json").read_text())
    rounds = {(row["work"], row["size"]): len(row["times"]) for row in results["rows"] if row["name"] == "leakyrelu"}
    assert rounds == {
        (f"lone, {dtype}, {memory}", size): 2 if (dtype, memory) == ("bfloat16", "reused") else 4
        for dtype in ("float32", "bfloat16")
        for memory in ("fresh", "reused")
        for size in ("2^10", "2^18")
    }
    kept = {
        (row["name"], row["size"]): row["bytes"] for row in results["rows"] if row["work"] == "lone, float32, fresh"
    }
    assert kept["PyTorch", "2^18"] == 2**20
    assert kept["leakyrelu", "2^18"] == 2**15
    assert len(results["machine"]["commands"]) == 3
    assert "| lone, float32, fresh, 1 MiB and more: bytes kept" in (tmp_path / "torch.md").read_text()
    assert (tmp_path / "torch.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_part_of_training_is_refused():
    done = run("torch", "everything")
    assert done.returncode == 2
    assert "unknown part: everything; choose from lone, chains" in done.stderr
