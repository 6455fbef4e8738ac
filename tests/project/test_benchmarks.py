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


def load(path):
    """The stored results of a run; no entry of them takes more than one line."""
    text = path.read_text()
    results = json.loads(text)
    entries = [len(value) + 2 for value in results.values() if isinstance(value, list | dict) and value]
    assert len(text.splitlines()) <= 2 + sum(entries) + len(results)
    return results


def of(results, **wanted):
    """Seconds by candidate, in the one measurement that answers to `wanted`."""
    (row,) = [row for row in results if all(row[key] == value for key, value in wanted.items())]
    return row["seconds"]


def test_small_run_stores_every_measurement(tmp_path):
    arguments = ["sizes", "calls", "threads", "instruction-sets", "--powers", "4,10,14", "--repeats", "2"]
    done = run(*arguments, "--modes", "out,in place", "--dtypes", "float32,bfloat16", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    results = load(tmp_path / "arrays.json")
    for operation, dtype, mode, n in (
        ("forward", "float32", "out", 16),
        ("forward", "float32", "in place", 1024),
        ("backward", "bfloat16", "out", 1024),
        ("both", "float32", "out", 1024),
    ):
        seconds = of(results["sizes"], operation=operation, dtype=dtype, mode=mode, n=n)
        assert any(name.startswith("leakyrelu") for name in seconds)
        assert all(0 < first <= median <= third for median, first, third in seconds.values())
    forward = of(results["sizes"], operation="forward", dtype="float32", mode="out", n=1024)
    assert "PyTorch out=" in forward
    assert any(name.startswith("limit") for name in forward)
    assert results["machine"]["packages"]["numpy"] != "not installed"
    assert set(results["calls"]["seconds"]) >= {"leakyrelu, array", "PyTorch leaky_relu"}
    table = (tmp_path / "arrays.md").read_text()
    assert "### forward, float32, out" in table
    assert "share of the limit" in table
    all_ = str(leakyrelu.get_num_threads())
    counts = sorted({"1", all_}, key=int)
    threads = {row["mode"]: row["seconds"] for row in results["threads"]}
    assert list(threads) == ["out", "fresh", "in place"]
    assert all(list(seconds) == counts for seconds in threads.values())
    times = [threads["out"][name][0] for name in counts]
    cells = " | ".join(f"{each * 1e6:.2f}" for each in times)
    assert f"| 2^14 | out | {cells} | {times[0] / times[-1]:.2f} |" in table
    baseline = of(results["instruction_sets"], n=2**10, mode="out")
    cells = " | ".join(f"{median * 1e6:.2f}" for median, _, _ in baseline.values())
    assert "baseline" in baseline
    assert f"| 2^10 | out | {cells} |" in table
    for picture in ("relative.png", "limit.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_update_keeps_what_is_not_measured_again(tmp_path):
    arguments = ["--repeats", "1", "--dtypes", "float32", "--operations", "forward", "--save", str(tmp_path)]
    assert run("arrays", "sizes", "--powers", "4,10", "--modes", "out", *arguments).returncode == 0
    first = load(tmp_path / "arrays.json")
    done = run("sizes", "--powers", "10", "--modes", "out,in place", "--update", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    second = load(tmp_path / "arrays.json")
    assert of(second["sizes"], n=16, mode="out") == of(first["sizes"], n=16, mode="out")
    assert len(of(second["sizes"], n=1024, mode="out")) > 3
    assert of(second["sizes"], n=1024, mode="in place")
    assert [each["command"] for each in second["machine"]["before"]] == [first["machine"]["command"]]


def test_new_memory_is_measured_in_a_process_of_its_own(tmp_path):
    arguments = ["sizes", "--powers", "10,18", "--repeats", "1", "--modes", "out,new", "--dtypes", "float32"]
    done = run(*arguments, "--operations", "forward,backward", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    new = [row for row in load(tmp_path / "arrays.json")["sizes"] if row["mode"] == "new"]
    assert [(row["operation"], row["n"]) for row in new] == [("forward", 2**18), ("backward", 2**18)]
    assert {"leakyrelu", "PyTorch", "NumPy maximum"} <= set(new[0]["seconds"])
    assert "### forward, float32, new" in (tmp_path / "arrays.md").read_text()


@pytest.mark.parametrize("part", ["everything", "size"])
def test_unknown_part_is_refused(part):
    done = run(part)
    assert done.returncode == 2
    assert f"unknown part: {part}; choose from sizes" in done.stderr


def test_small_run_of_training(tmp_path):
    arguments = ["training", "layer", "--no-compile", "--save", str(tmp_path)]
    first = ["--powers", "10,18", "--memory", "fresh,reused", "--dtypes", "float32", "--rounds", "3"]
    second = ["--powers", "10", "--memory", "reused", "--dtypes", "float32,bfloat16", "--rounds", "2"]
    for more in (first, second):
        done = run(*arguments, *more)
        assert done.returncode == 0, done.stderr[-3000:]
    results = load(tmp_path / "training.json")
    ours = [row for row in results["measured"] if row["name"] == "leakyrelu"]
    assert {(row["work"].removeprefix("single layer, "), row["size"]): row["rounds"] for row in ours} == {
        ("float32, fresh", "2^10"): 3,
        ("float32, fresh", "2^18"): 3,
        ("float32, reused", "2^10"): 2,
        ("float32, reused", "2^18"): 3,
        ("bfloat16, reused", "2^10"): 2,
    }
    assert all(0 < first <= median <= third for median, first, third in (row["seconds"] for row in ours))
    kept = {
        (row["name"], row["size"]): row["bytes"]
        for row in results["measured"]
        if row["work"] == "single layer, float32, fresh"
    }
    assert kept["PyTorch", "2^18"] == 2**20
    assert kept["leakyrelu", "2^18"] == 2**15
    assert len(results["machine"]["commands"]) == 2
    assert "| single layer, float32, fresh, 1 MiB and more: bytes kept" in (tmp_path / "training.md").read_text()
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_part_of_training_is_refused():
    done = run("training", "everything")
    assert done.returncode == 2
    assert "unknown part: everything; choose from layer, chains" in done.stderr


def test_small_run_of_learned_slopes(tmp_path):
    done = run("prelu", "--data", "2^16", "--repeats", "2", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    measured = load(tmp_path / "prelu.json")["measured"]
    assert [(row["dtype"], row["slopes"]) for row in measured] == [
        (dtype, slopes) for dtype in ("float32", "bfloat16") for slopes in ("shared", "each", "negative")
    ]
    shared = measured[0]
    assert shared["ratio"][0] == pytest.approx(shared["seconds"]["leakyrelu"][0] / shared["seconds"]["PyTorch"][0])
    assert shared["bytes"] == {"leakyrelu": 8, "PyTorch": 4 * 2**16 + 4}
    assert f"| {shared['ratio'][0]:.2f} | 8 | 262,148 |" in (tmp_path / "prelu.md").read_text()


def test_small_run_of_the_census(tmp_path):
    sizes = [
        "--rounds",
        "2",
        "--size",
        "8",
        "--batch",
        "2",
        "--batches",
        "2",
        "--threads",
        "1",
        "--layouts",
        "contiguous",
    ]
    done = run("census", *sizes, "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    measured = load(tmp_path / "census.json")["measured"]
    assert [(row["network"], row["what"]) for row in measured] == [
        (network, what) for network in ("plain", "residual") for what in ("diagnose", "watch every 10")
    ]
    assert all(0 < first <= median <= third for median, first, third in (row["ratio"] for row in measured))
    assert f"| {measured[0]['ratio'][0]:.3f} | 1.25 |" in (tmp_path / "census.md").read_text()


def test_two_versions_are_compared(tmp_path):
    works = "one element, array;2^10, fresh;import;single layer, 2^20"
    sides = ["--before", sys.executable, "--after", sys.executable]
    done = run("compare", *sides, "--works", works, "--rounds", "2", "--save", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    measured = load(tmp_path / "compare.json")["measured"]
    assert sorted(row["work"] for row in measured) == [
        "2^10, fresh",
        "import, NumPy imported before",
        "import, with NumPy",
        "one element, array",
        "single layer, 2^20",
    ]
    for row in measured:
        assert set(row["seconds"]) == {"before", "after"}
        assert 0 < row["ratio"][1] <= row["ratio"][0] <= row["ratio"][2]
    table = (tmp_path / "compare.md").read_text()
    assert f"Before: leakyrelu {leakyrelu.__version__}" in table
    assert f"| {measured[0]['ratio'][0]:.3f} |" in table


def test_unknown_workload_is_refused():
    done = run("compare", "--before", "python", "--after", "python", "--works", "2^99, out")
    assert done.returncode == 2
    assert "unknown workload: 2^99, out; " in done.stderr
