"""The study: data, network, training and bookkeeping, each against an independent computation."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from support.studies import made_up
from torch import nn

from leakyrelu import slope
from leakyrelu.study import (
    Data,
    DataError,
    Part,
    Row,
    Run,
    Settings,
    Snapshot,
    StudyResult,
    choose_rows,
    digits,
    load,
    run_study,
    training,
)
from leakyrelu.study.conclusion import concluding_sentence
from leakyrelu.study.networks import build, hidden
from leakyrelu.study.output import write_json
from leakyrelu.study.runner import best_learning_rate
from leakyrelu.study.table import cells, terminal_table

SMALL = Settings(depth=14, width=16, epochs=2, seeds=2, learning_rates=(1e-3, 3e-3), batch_size=128)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # such small matrices only lose time to a second one
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> Data:
    return digits()


@pytest.fixture(scope="module")
def calls() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="module")
def result(data, calls) -> StudyResult:
    return run_study(data, SMALL, workers=1, progress=lambda *call: calls.append(call))


# --- data


def blobs(path, *, classes=3, each=20, features=4, **changes):
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(classes), each)
    x = rng.normal(size=(len(y), features)) + 3.0 * y[:, None]
    np.savez(path, **{"X": x, "y": y, **changes})
    return path


def test_digits_are_split_by_class_and_standardized(data):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    parts = (data.train, data.validation, data.test)
    assert sum(len(part.y) for part in parts) == len(y)
    for part in parts[1:]:
        np.testing.assert_array_equal(np.bincount(part.y), np.bincount(y) // 5)
    seen = np.concatenate([part.x for part in parts])
    # The samples are those of scikit-learn, each in one part: standardizing is undone by a least-squares line a column.
    spread = data.train.x.std(0) > 0
    np.testing.assert_allclose(data.train.x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.x.std(0)[spread], 1, rtol=1e-4)
    ours = np.sort((seen[:, spread] - seen[:, spread].mean(0)) / seen[:, spread].std(0), axis=0)
    theirs = np.sort((x[:, spread] - x[:, spread].mean(0)) / x[:, spread].std(0), axis=0)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_split_is_always_the_same(data):
    again = digits()
    np.testing.assert_array_equal(again.test.x, data.test.x)
    np.testing.assert_array_equal(again.train.y, data.train.y)


def test_a_file_may_hold_images_and_words(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", X=rng.integers(0, 255, (30, 3, 2), dtype=np.uint8), y=np.repeat(["cat", "dog"], 15))
    loaded = load(tmp_path / "d.npz")
    assert (loaded.name, loaded.features, loaded.classes) == ("d.npz", 6, 2)
    assert [len(part.y) for part in (loaded.train, loaded.validation, loaded.test)] == [18, 6, 6]
    assert loaded.train.x.dtype == np.float32


def test_constant_features_stay_finite(tmp_path):
    loaded = load(blobs(tmp_path / "d.npz", X=np.ones((60, 4))))
    np.testing.assert_array_equal(loaded.test.x, 0)


NAN = np.full((60, 4), np.nan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X": NAN}, "X has 240 NaN or infinite values; fill in finite values or leave those samples out"),
        ({"X": np.full((60, 4), np.inf)}, "X has 240 NaN or infinite values"),
        ({"X": np.ones(60)}, r"X has shape \(60,\); it must have samples first and at least one more dimension"),
        ({"X": np.ones((60, 0))}, r"X has shape \(60, 0\) and holds nothing"),
        ({"X": np.ones((59, 4))}, "X has 59 samples and y has 60 labels; the numbers must agree"),
        ({"X": np.full((60, 4), "a")}, "X has dtype <U1; features must be real numbers"),
        ({"X": np.ones((60, 4), complex)}, "X has dtype complex128; features must be real numbers"),
        ({"y": np.where(np.arange(60) < 3, np.nan, 1.0)}, "y has 3 NaN labels; leave these samples out"),
        ({"y": np.linspace(0, 1, 60)}, "y holds fractions or infinity; labels must be classes, not measurements"),
        ({"y": np.zeros(60, int)}, "every label is 0; there must be at least two classes"),
        ({"y": np.r_[np.zeros(57, int), [7] * 3]}, "class 7 has only 3 samples of 60; every class needs 5, to be in"),
        ({"y": np.zeros((60, 1))}, r"y has shape \(60, 1\); it must have one dimension, a label per sample"),
        ({"y": np.ones(60, complex)}, "y has dtype complex128; labels must be integers, strings or booleans"),
    ],
)
def test_arrays_that_cannot_be_studied_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=r"d\.npz: " + message):
        load(blobs(tmp_path / "d.npz", **changes))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz does not exist"):
        load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"text\.npz is not a file written by np\.save or np\.savez"):
        load(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.npz is not a file written by np\.save or np\.savez"):
        load(tmp_path / "empty.npz")
    whole = blobs(tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.npz is not a file written by np\.save or np\.savez"):
        load(tmp_path / "cut.npz")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(
        DataError, match=r"one\.npy has no array 'y', only X; save with X=\.\.\., y=\.\.\., by np\.savez"
    ):
        load(tmp_path / "one.npy")
    np.savez(tmp_path / "names.npz", x=np.ones((3, 2)), y=np.ones(3))
    with pytest.raises(DataError, match=r"names\.npz has no array 'X', only x, y; save with X=\.\.\., y=\.\.\."):
        load(tmp_path / "names.npz")
    with pytest.raises(DataError, match=r" is a folder, not a file written by np\.save or np\.savez"):
        load(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "objects.npz", X=np.ones((60, 2)), y=np.array([{}] * 60, dtype=object))
    with pytest.raises(DataError, match=r"would have to be unpickled, which can run code; save arrays of numbers"):
        load(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": -1}, "depth must be at least 1, got -1"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"batch_size": 0}, "batch size must be at least 1, got 0"),
        ({"learning_rates": (0.0,)}, "a learning rate must be a finite number above 0, got 0"),
        ({"learning_rates": (math.nan,)}, "a learning rate must be a finite number above 0, got nan"),
        ({"learning_rates": ()}, "at least one learning rate is needed, got none"),
        ({"learning_rates": (1e-3, 0.001)}, "a learning rate is given twice: 0.001, 0.001"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


# --- rows and network


def test_rows_are_those_of_the_study():
    rows, left_out = choose_rows(50)
    names = ["ReLU", "Leaky 0.001", "Leaky 0.01", "Leaky 0.2", "Tailored", "Centered", "PReLU"]
    assert [row.name for row in rows] == names
    assert [row.slope for row in rows] == pytest.approx([0, 0.001, 0.01, 0.2, 0.4305, 0.7964, 0.25], abs=1e-4)
    assert left_out == ()


def test_a_formula_without_a_solution_is_left_out_with_a_line():
    rows, left_out = choose_rows(5)
    assert "Tailored" not in [row.name for row in rows]
    assert [line.split(":")[0] for line in left_out] == ["Tailored is left out"]
    assert "at depth 5" in left_out[0]
    assert "a depth of at least 13" in left_out[0]
    assert len(choose_rows(1)[1]) == 2


@pytest.mark.parametrize("row", choose_rows(50)[0], ids=lambda row: row.name)
def test_weights_are_orthogonal_times_the_scale_that_preserves_the_signal(row):
    network = build(row, shape=(8,), classes=5, depth=3, width=32, seed=3)
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    second_moment = 1.0 if row.kind == "centered" else (1 + row.slope**2) / 2
    for number, layer in enumerate(linears):
        weight = layer.weight.detach().double().numpy()
        outputs, inputs = weight.shape
        # The mean square of an output, for inputs of one common mean square q: q |W|^2 / outputs.
        before = second_moment if number else 1.0
        assert before * (weight**2).sum() / outputs == pytest.approx(1.0, rel=1e-5)
        gram = weight @ weight.T if outputs <= inputs else weight.T @ weight
        np.testing.assert_allclose(gram, gram[0, 0] * np.eye(len(gram)), atol=1e-5)
        assert not layer.bias.any()
    assert len(hidden(network)) == 3


def test_every_row_gets_the_same_matrices():
    rows = choose_rows(50)[0]
    networks = [build(row, shape=(8,), classes=5, depth=3, width=8, seed=1) for row in rows]
    for layers in zip(*[hidden(network) for network in networks], strict=True):
        directions = [layer.weight / layer.weight.norm() for layer in layers]
        for direction in directions[1:]:
            torch.testing.assert_close(direction, directions[0])
    other = build(rows[0], shape=(8,), classes=5, depth=3, width=8, seed=2)
    assert not torch.allclose(hidden(other)[1].weight, hidden(networks[0])[1].weight)


# --- training


def plain_copy(network: nn.Sequential, row: Row) -> nn.Sequential:
    """The same network in PyTorch's own modules."""
    copy = nn.Sequential()
    for layer in network:
        if isinstance(layer, nn.Linear):
            linear = nn.Linear(layer.in_features, layer.out_features)
            linear.load_state_dict(layer.state_dict())
            copy.append(linear)
        elif row.kind == "centered":
            copy.append(Centered(row.slope))
        elif row.kind == "prelu":
            copy.append(nn.PReLU(init=row.slope))
        else:
            copy.append(nn.LeakyReLU(row.slope))
    return copy


class Centered(nn.Module):
    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x):
        shift = (1 - self.alpha) / math.sqrt(2 * math.pi)
        return (nn.functional.leaky_relu(x, self.alpha) - shift) / math.sqrt((1 + self.alpha**2) / 2 - shift**2)


@pytest.mark.parametrize("row", choose_rows(14)[0], ids=lambda row: row.name)
def test_a_training_is_that_of_plain_pytorch(data, row):
    settings = Settings(depth=4, width=16, epochs=2, batch_size=100)
    run, _ = training.train(data, settings, row, 3, 1e-3)

    network = plain_copy(build(row, shape=(64,), classes=10, depth=4, width=16, seed=3), row)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, foreach=False)
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)
    order = torch.Generator().manual_seed(7)
    losses = []
    for _ in range(2):
        total = 0.0
        shuffled = torch.randperm(len(x), generator=order)
        for start in range(0, len(x), 100):
            batch = shuffled[start : start + 100]
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(x))
    assert run.loss == pytest.approx(losses, rel=1e-4)
    right = (network(torch.from_numpy(data.validation.x)).argmax(1).numpy() == data.validation.y).mean()
    assert run.validation_accuracy[-1] == pytest.approx(right, abs=2.5 / len(data.validation.y))
    assert not run.diverged


def test_every_row_sees_the_same_batches(data, monkeypatch):
    seen = []
    ours = training.cross_entropy

    def recording(prediction, target):
        seen.append(target.tolist())
        return ours(prediction, target)

    monkeypatch.setattr(training, "cross_entropy", recording)
    settings = Settings(depth=2, width=8, epochs=2)
    batches = []
    for row, seed in ((choose_rows(50)[0][0], 0), (choose_rows(50)[0][-1], 0), (choose_rows(50)[0][0], 1)):
        seen.clear()
        training.train(data, settings, row, seed, 1e-3)
        batches.append(list(seen))
    assert batches[0] == batches[1]
    assert batches[0] != batches[2]
    steps = len(batches[0]) // 2
    assert batches[0][:steps] != batches[0][steps:]
    assert sorted(itertools.chain(*batches[0][:steps])) == sorted(data.train.y.tolist())


@pytest.mark.parametrize("row", choose_rows(14)[0], ids=lambda row: row.name)
def test_a_snapshot_is_what_numpy_and_autograd_say(data, row, monkeypatch):
    monkeypatch.setattr(training, "_CHUNK", 100)  # several chunks, which must not show
    network = build(row, shape=(64,), classes=10, depth=14, width=16, seed=0)
    found = training.snapshot(network, data.train)

    plain = plain_copy(network, row).double()
    x, y = torch.from_numpy(data.train.x).double(), torch.from_numpy(data.train.y)
    weights = [layer.weight for layer in plain if isinstance(layer, nn.Linear)][:-1]
    gradients = torch.autograd.grad(nn.functional.cross_entropy(plain(x), y), weights)
    assert found.gradient_norm == pytest.approx([float(gradient.norm()) for gradient in gradients], rel=1e-4)

    silent, always_on, ratios = [], [], []
    values = data.train.x.astype(np.float64)
    for layer in plain:
        if isinstance(layer, nn.Linear):
            values = values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
            continue
        share = (values > 0).mean(0)
        silent.append(int((share == 0).sum()))
        always_on.append(int((share == 1).sum()))
        values = layer(torch.from_numpy(values)).detach().numpy()
        ratios.append(np.linalg.norm(values.mean(0)) / np.linalg.norm(values.std(0)))
    assert list(found.silent_units) == silent
    assert list(found.always_on_units) == always_on
    assert found.mean_over_std == pytest.approx(ratios, rel=1e-3)
    if row.kind == "relu":
        assert sum(silent) > 0  # or the comparison would say little


def test_a_diverging_run_is_reported_and_not_counted_as_silent(data):
    settings = Settings(depth=3, width=8, epochs=1, seeds=1, learning_rates=(1e30,))
    result = run_study(data, settings, workers=1)
    lost = [row for row in result.rows if row.diverged]
    assert lost
    assert all(math.isnan(row.silent_after) for row in lost)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["rows"][0]["diverged"] == result.rows[0].diverged
    assert "diverged" in concluding_sentence(result)


# --- the whole


def test_every_combination_is_run_once(result, calls):
    for row in result.rows:
        assert [(run.learning_rate, run.seed) for run in row.runs] == [(1e-3, 0), (1e-3, 1), (3e-3, 0), (3e-3, 1)]
        assert [examination.seed for examination in row.examinations] == [0, 1]
        assert all(len(run.loss) == len(run.validation_accuracy) == 2 for run in row.runs)
        assert row.learning_rate == best_learning_rate(list(row.runs))
        assert all(len(getattr(row.examinations[0].before, field.name)) == 14 for field in dataclasses.fields(Snapshot))
    total = 7 * (2 * 2 + 2)
    assert [call[:2] for call in calls] == [(done, total) for done in range(1, total + 1)]


def test_workers_change_no_number(data, result):
    again = run_study(data, SMALL, workers=2)
    assert again.workers == 2
    for one, two in zip(result.rows, again.rows, strict=True):
        assert one.examinations == two.examinations
        assert [dataclasses.replace(run, seconds=0) for run in one.runs] == [
            dataclasses.replace(run, seconds=0) for run in two.runs
        ]


def test_the_test_data_choose_nothing(data, result):
    swapped = dataclasses.replace(data, test=Part(data.test.x, (data.test.y + 1) % 10))
    settings = dataclasses.replace(SMALL, seeds=1)
    for one, two in zip(
        run_study(data, settings, workers=1).rows, run_study(swapped, settings, workers=1).rows, strict=True
    ):
        assert one.learning_rate == two.learning_rate
        assert [run.validation_accuracy for run in one.runs] == [run.validation_accuracy for run in two.runs]
        assert one.test_accuracies != two.test_accuracies


def test_threads_are_given_back(data):
    torch.set_num_threads(2)
    run_study(data, Settings(depth=1, width=4, epochs=1, seeds=1, learning_rates=(1e-3,)), workers=1)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_summaries_follow_from_the_single_numbers(result):
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert len(document["rows"]) == 7
    for row in document["rows"]:
        looks = row["examinations"]
        assert row["test_accuracy"] == pytest.approx(np.median([look["test_accuracy"] for look in looks]))
        assert row["test_accuracy_range"] == [f(look["test_accuracy"] for look in looks) for f in (min, max)]
        for when in ("before", "after"):
            shares = [sum(look[when]["silent_units"]) / (14 * 16) for look in looks]
            assert row[f"silent_{when}"] == pytest.approx(np.median(shares))
            ratios = [np.mean(look[when]["mean_over_std"]) for look in looks]
            assert row[f"mean_over_std_{when}"] == pytest.approx(np.median(ratios))
        norms = [look["before"]["gradient_norm"] for look in looks]
        assert row["gradient_ratio"] == pytest.approx(np.median([norm[0] / norm[-1] for norm in norms]))
        chosen = [run for run in row["runs"] if run["learning_rate"] == row["learning_rate"]]
        assert row["seconds"] == pytest.approx(np.median([run["seconds"] for run in chosen]))
        assert row["validation_accuracy"] == pytest.approx(
            np.median([run["validation_accuracy"][-1] for run in chosen])
        )
    assert document["machine"]["cpus"] >= 1
    assert document["machine"]["versions"]["torch"] == torch.__version__
    assert document["data"] == {
        "name": "handwritten digits",
        "features": 64,
        "classes": 10,
        "train": 1087,
        "validation": 355,
        "test": 355,
    }


def test_json_is_strict_and_has_the_sentence(result, tmp_path):
    write_json(result, tmp_path / "s.json")
    document = json.loads((tmp_path / "s.json").read_text("utf-8"), parse_constant=lambda word: pytest.fail(word))
    assert document["reading"] == concluding_sentence(result)


def test_the_table_fits_eighty_columns(result):
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(result))
    console.file.close()
    text = console.export_text()
    assert "…" not in text
    lines = text.splitlines()
    for row in result.rows:
        line = next(line for line in lines if line.startswith(row.row.name))
        assert all(cell in line for cell in cells(row))


# --- the concluding sentence


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        (
            made_up(
                {"ReLU": [0.8, 0.82, 0.84], "Tailored": [0.9] * 3, "Centered": [0.94, 0.95, 0.96]},
                {"ReLU": 0.25, "Tailored": 0.01},
            ),
            "At depth 50 on some data, Centered (slope 0.796) was the most accurate with 95.0 % of the test "
            "samples right, 13.0 points above ReLU's 82.0 % (medians of 3 seeds, whose ranges do not overlap); "
            "after training the share of silent units was 25.0 % under ReLU and 0.0 % under Centered.",
        ),
        (
            made_up(
                {"ReLU": [0.8, 0.82, 0.97], "Tailored": [0.96] * 3, "Centered": [0.95] * 3},
                {"ReLU": 0.25, "Tailored": 0.01},
            ),
            "At depth 50 on some data, Tailored (slope 0.431) was the most accurate with 96.0 % of the test "
            "samples right, 14.0 points above ReLU's 82.0 % (medians of 3 seeds, but their ranges overlap: a "
            "hint, no more); after training the share of silent units was 25.0 % under ReLU, 1.0 % under "
            "Tailored and 0.0 % under Centered.",
        ),
        (
            made_up({"ReLU": [0.97, 0.98], "Leaky 0.2": [0.95, 0.96], "Centered": [0.9, 0.9]}, {"ReLU": 0.1}),
            "At depth 50 on some data, no slope did better than ReLU with 97.5 % of the test samples right; the"
            " best of the others was Leaky 0.2 (slope 0.2) with 95.5 % (medians of 2 seeds, whose ranges do not"
            " overlap), and after training the share of silent units was 10.0 % under ReLU and 0.0 % under "
            "Leaky 0.2.",
        ),
        (
            made_up({"ReLU": [0.9, 0.9], "Centered": [0.9, 0.9]}),
            "At depth 50 on some data, no slope did better than ReLU with 90.0 % of the test samples right; the"
            " best of the others was Centered (slope 0.796) with 90.0 % (medians of 2 seeds: a tie), and after "
            "training the share of silent units was 0.0 % under ReLU and 0.0 % under Centered.",
        ),
        (
            made_up({"ReLU": [0.5], "Leaky 0.01": [0.6]}),
            "At depth 50 on some data, Leaky 0.01 (slope 0.01) was the most accurate with 60.0 % of the test "
            "samples right, 10.0 points above ReLU's 50.0 % (one seed: a hint, no more); after training the "
            "share of silent units was 0.0 % under ReLU and 0.0 % under Leaky 0.01.",
        ),
        (
            made_up({"ReLU": [0.1], "Centered": [0.6]}, {"Centered": 0.0}, diverged=("ReLU",)),
            "At depth 50 on some data, Centered (slope 0.796) was the most accurate with 60.0 % of the test "
            "samples right, 50.0 points above ReLU's 10.0 % (one seed: a hint, no more); after training the "
            "share of silent units was 0.0 % under Centered, and every run of ReLU diverged.",
        ),
    ],
    ids=["centered", "overlap", "relu", "tie", "one seed", "diverged"],
)
def test_the_sentence_is_right_whichever_row_is_best(study, sentence):
    assert concluding_sentence(study) == sentence


def test_the_learning_rate_is_chosen_by_the_median():
    def runs(rate: float, *accuracies: float) -> list[Run]:
        return [Run(seed, rate, (1.0,), (0.99, value), 1.0, False) for seed, value in enumerate(accuracies)]

    assert best_learning_rate(runs(1e-3, 0.2, 0.8, 0.8) + runs(1e-4, 0.7, 0.7, 0.9)) == 1e-3
    assert best_learning_rate(runs(1e-3, 0.8, 0.8) + runs(1e-4, 0.8, 0.8)) == 1e-4


def test_slopes_named_in_the_rows_are_those_of_the_formulas():
    rows = {row.name: row for row in choose_rows(50)[0]}
    assert rows["Tailored"].slope == slope.tailored(50)
    assert rows["Centered"].slope == slope.centered(50)
    assert rows["Tailored"].scale == slope.gain(rows["Tailored"].slope)
    assert rows["Centered"].scale == 1.0
