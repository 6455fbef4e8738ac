"""The benchmark beside other packages: what it plants is dead and nothing else, and it scores as it says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest
import torch
from support import ROOT

PERCEPTRON, CONVOLUTION = [8, 0, 48], [1, 0, 6]  # of 80 units and of 10
PLANTED = {
    "ReLU modules": PERCEPTRON,
    "Leaky ReLU modules": PERCEPTRON,
    "`F.relu`": PERCEPTRON,
    "`F.relu`, untraceable": PERCEPTRON,
    "`F.leaky_relu`": PERCEPTRON,
    "one ReLU, three places": PERCEPTRON,
    "behind batch norm": PERCEPTRON,
    "(batch, token, feature)": PERCEPTRON,
    "convolutions, batch norm": CONVOLUTION,
    "residual block, one ReLU": CONVOLUTION,
    "GELU modules": PERCEPTRON,
}


@pytest.fixture(scope="module")
def benchmark():
    """A module of the benchmark by its name."""
    sys.path.insert(0, str(ROOT))
    yield lambda name: importlib.import_module(f"benchmarks.peers.{name}")
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def cases(benchmark):
    return {case.name: case for case in benchmark("networks").cases(width=80, batch=64, batches=2, size=8)}


def inputs_of_activations(case):
    """What goes into each activation, in a pass over all data: of modules by a hook, of functions what feeds them."""
    seen = []
    names = list(dict.fromkeys(place.activation for place in case.places))
    if names[0].endswith("()"):
        fed = [case.model.get_submodule(place.bias) for place in case.places]
        hooks = [module.register_forward_hook(lambda _module, _args, out: seen.append(out.clone())) for module in fed]
    else:
        modules = [case.model.get_submodule(name) for name in names]
        hooks = [
            module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].clone())) for module in modules
        ]
    with torch.no_grad():
        case.model(torch.cat(case.batches))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", PLANTED)
def test_planted_units_are_dead_and_all_others_are_not(cases, name):
    case = cases[name]
    assert [len(units) for units in case.planted] == PLANTED[name]
    seen = inputs_of_activations(case)
    assert len(seen) == len(case.places) == 3
    last = name == "(batch, token, feature)"
    for x, units, positions in zip(seen, case.planted, case.positions, strict=True):
        by_unit = x.flatten(0, 1).T if last else x.transpose(0, 1).flatten(1)
        assert len(by_unit) == case.units
        assert set((by_unit > 0).any(dim=1).logical_not().nonzero().flatten().tolist()) == units
        assert positions == by_unit.shape[1] // len(x)
        shares = (by_unit > 0).double().mean(dim=1)
        living = [unit for unit in range(case.units) if unit not in units]
        assert 0.35 < shares[living].min() < shares[living].max() < 0.85


def test_every_network_of_the_benchmark_is_tested(cases):
    assert list(cases) == list(PLANTED)


def test_places_that_are_not_those_of_the_network_are_refused(benchmark):
    networks = benchmark("networks")
    model = torch.nn.Sequential(torch.nn.Linear(8, 20), torch.nn.ReLU(), torch.nn.Linear(20, 20), torch.nn.ReLU())
    batches = [torch.randn(16, 8)]
    first, second = networks.Place("1", 1, "0", "0"), networks.Place("3", 1, "2", "2")
    with pytest.raises(RuntimeError, match="a pair: 2 activations were called, and 1 places are named"):
        networks.plant("a pair", model, batches, [first], 1)
    wrong = networks.Place("3", 1, "2", "0")  # its bias feeds the activation before
    with pytest.raises(RuntimeError, match=r"a pair: at Place\(.*units \[.*\] are not as planted"):
        networks.plant("a pair", model, batches, [first, wrong], 1)
    case = networks.plant("a pair", model, batches, [first, second], 1)
    assert [len(units) for units in case.planted] == [2, 0]


def test_rows_of_a_report_are_matched_by_place(benchmark):
    names = [
        "act",
        "act, call 2",
        "block.relu",
        "block.relu()",
        "block.relu()#2",
        "act after fc",
        "block.relu(), call 3",
    ]
    assert benchmark("readers").place_rows(names) == [
        "act",
        "act, call 2",
        "block.relu",
        "block.relu()",
        "block.relu(), call 2",
        "act, call 3",
        "block.relu(), call 3",
    ]


@pytest.fixture
def scored(benchmark):
    """The score of rows by a reader of a kind, on a module that is called twice and one that is called once."""
    networks, readers, scores = benchmark("networks"), benchmark("readers"), benchmark("scores")
    places = [
        networks.Place("act", 1, "one", "one"),
        networks.Place("act", 2, "two", "two"),
        networks.Place("last", 1, "three", "three"),
    ]
    planted = [frozenset({0, 1}), frozenset({1, 2, 3}), frozenset()]
    case = networks.Case("case", torch.nn.Identity(), [], places, planted, units=10, positions=[4, 4, 4])
    by = {
        "call": lambda place: [f"{place.activation}, call {place.call}"],
        "module": lambda place: [place.activation],
        "front": lambda place: [place.weights],
    }

    def score(reports, key, rows, **more):
        reader = readers.Reader("reader", getattr(readers, reports), by[key], None, **more)
        return scores.score(reader, case, rows)

    return score


def test_named_units_are_held_against_the_units(scored):
    exact = {"act, call 1": frozenset({0, 1}), "act, call 2": frozenset({1, 2, 3}), "last, call 1": frozenset()}
    assert scored("UNITS", "call", exact) == (5, 5, 0)
    assert scored("UNITS", "call", exact).exact
    wrong = exact | {"act, call 1": frozenset({0, 7}), "last, call 1": frozenset({4})}
    assert scored("UNITS", "call", wrong) == (5, 4, 2)
    assert not scored("UNITS", "call", wrong).exact
    assert scored("UNITS", "call", {}) == (5, 0, 0)
    # One row for both calls says of each that unit 1 is dead, and 7 is dead at neither.
    assert scored("UNITS", "module", {"act": frozenset({1, 7})}) == (5, 2, 1)


def test_rows_that_stand_for_no_place_count_where_each_row_is_an_activation(scored):
    rows = {"act, call 3": frozenset({5})}
    assert scored("UNITS", "call", rows) == (5, 0, 0)
    assert scored("UNITS", "call", rows, activations_only=True) == (5, 0, 1)


def test_counts_are_taken_at_their_best(scored):
    assert scored("COUNTS", "module", {"act": 3, "last": 2, "head": 9}) == (5, 3, 2)
    assert scored("COUNTS", "module", {"act": 6}) == (5, 5, 1)
    assert scored("SHARES", "module", {"act": 0.25, "last": 0.1}) == (5, 5, 1)
    assert scored("POSITIONS", "front", {"one": 8, "two": 11, "three": 1}) == (20, 19, 1)


def test_a_warning_is_of_a_layer(scored):
    assert scored("WARNINGS", "module", {"act": 1}) == (1, 1, 0)
    assert scored("WARNINGS", "module", {"last": 1}) == (1, 0, 1)


def test_a_package_that_fails_is_named_with_its_error(benchmark, cases):
    readers, table = benchmark("readers"), benchmark("table")
    (ours,) = (reader for reader in readers.READERS if reader.name == readers.OURS)

    def fail(model, batches):
        raise KeyError("layer1")

    broken = readers.Reader("broken", readers.UNITS, ours.rows, fail)
    rows = benchmark("main").measure(cases["ReLU modules"], [ours, broken], rounds=1)
    assert [row["reader"] for row in rows] == ["leakyrelu", "broken"]
    assert rows[0]["found"] == rows[0]["planted"] == 56
    assert rows[1] == {"case": "ReLU modules", "reader": "broken", "error": "KeyError: 'layer1'"}
    assert table.cell(rows[1]) == "fails"


@pytest.mark.parametrize(
    ("found", "false_alarms", "text"),
    [(5, 0, "all"), (0, 0, "none"), (3, 0, "3 of 5"), (5, 1, "all, 1 false"), (0, 1200, "none, 1,200 false")],
)
def test_cells_of_the_short_table(benchmark, found, false_alarms, text):
    assert benchmark("table").cell({"planted": 5, "found": found, "false_alarms": false_alarms}) == text


def test_small_run_finds_what_was_planted(tmp_path):
    sizes = ["--width", "80", "--batch", "64", "--batches", "2", "--size", "8", "--rounds", "2"]
    command = [sys.executable, "-m", "benchmarks", "peers", *sizes, "--save", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "peers.json").read_text())
    ours = [row for row in results["measured"] if row["reader"] == "leakyrelu"]
    assert {row["case"]: (row["planted"], row["found"], row["false_alarms"]) for row in ours} == {
        name: (sum(counts), 0 if name == "GELU modules" else sum(counts), 0) for name, counts in PLANTED.items()
    }
    assert all(0 < first <= median <= third for median, first, third in (row["seconds"] for row in ours))
    versions = {reader["name"]: reader["version"] for reader in results["readers"]}
    assert len(versions) == 8
    table = (tmp_path / "peers.md").read_text()
    missing = [name for name, version in versions.items() if not version]
    assert not missing or f"Not installed: {', '.join(missing)}." in table
    assert "| one ReLU, three places | all |" in table


def test_each_package_is_pinned_to_a_version(benchmark):
    lines = (ROOT / "benchmarks" / "peers" / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    others = {reader.name for reader in benchmark("readers").READERS} - {"leakyrelu"}
    assert set(pinned) == others
