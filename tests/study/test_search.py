"""The search of a study: learning rates at an edge, trainings until validation is flat, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from support.studies import made_up

import leakyrelu
from leakyrelu.cli import main
from leakyrelu.study import (
    Data,
    DataError,
    Examination,
    Part,
    Run,
    SchedulerError,
    Settings,
    Snapshot,
    choose_rows,
    default_settings,
    run_study,
    training,
    workers,
)
from leakyrelu.study.conclusion import concluding_sentence, formula_sentence, search_lines
from leakyrelu.study.output import write_html, write_json

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def blobs() -> Data:
    """Three classes that a network learns in a few steps, as series of eight numbers."""
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    x = (rng.normal(size=(150, 8)) + 2.0 * np.eye(8)[y]).astype(np.float32)
    return Data("blobs", *[Part(x[i : i + 50], y[i : i + 50]) for i in (0, 50, 100)], classes=3, shape=(8,))


# --- learning rates


@pytest.mark.parametrize(
    ("rates", "best", "following"),
    [
        ((3e-4, 1e-3, 3e-3), 1e-3, None),
        ((3e-4, 1e-3, 3e-3), 3e-3, 9e-3),
        ((3e-4, 1e-3, 3e-3), 3e-4, 9e-5),
        ((1e-3, 1e-4), 1e-3, 1e-2),
        ((1e-3,), 1e-3, 3.3e-4),
        ((1.0, 1.001), 1.001, None),
        ((1e307, 1e308), 1e308, None),
    ],
)
def test_a_rate_at_an_edge_is_followed_by_the_factor_of_the_grid(rates, best, following):
    assert Settings().next_rate(rates, best) == following


PEAKS = {"ReLU": 1e-3, "Leaky 0.2": 9e-3, "Tailored": 3.3e-5, "Centered": 1e9, "PReLU": 1e-9}


@pytest.fixture
def planted(blobs, monkeypatch):
    """A study whose rows are best at the rate next to their peak; counts the trainings."""
    trained, examined = [], []

    def train(data, settings, row, seed, rate):
        trained.append((row.name, rate, seed))
        value = 1 / (1 + abs(math.log(rate / PEAKS.get(row.name, 1e-3))))
        return Run(seed, rate, (1.0,), (value,), 1.0, False), {"rate": np.array([rate])}

    def examine(data, settings, row, seed, weights):
        examined.append((row.name, float(weights["rate"][0]), seed))
        snapshot = Snapshot((1.0,), (0,), (0,), (0.5,))
        return Examination(seed, 0.5, snapshot, snapshot)

    monkeypatch.setattr("leakyrelu.study.runner.train", train)
    monkeypatch.setattr("leakyrelu.study.runner.examine", examine)
    calls: list[tuple[int, int, str]] = []
    settings = dataclasses.replace(default_settings("cnn"), seeds=2, extensions=3)
    result = run_study(blobs, settings, workers=1, progress=lambda *call: calls.append(call))
    return result, trained, examined, calls


def test_rows_at_an_edge_are_extended_until_their_best_lies_inside(planted):
    result, trained, examined, calls = planted
    rows = {row.row.name: row for row in result.rows}
    assert rows["ReLU"].learning_rates == (3e-4, 1e-3, 3e-3)
    assert rows["Leaky 0.2"].learning_rates == (3e-4, 1e-3, 3e-3, 9e-3, 2.7e-2)
    assert rows["Tailored"].learning_rates == (8.1e-6, 2.7e-5, 9e-5, 3e-4, 1e-3, 3e-3)
    assert rows["Centered"].learning_rates == (3e-4, 1e-3, 3e-3, 9e-3, 2.7e-2, 8.1e-2)
    assert [rows[name].learning_rate for name in ("ReLU", "Leaky 0.2", "Tailored")] == [1e-3, 9e-3, 2.7e-5]
    assert [rows[name].edge for name in rows] == [None, None, None, None, None, "highest", "lowest"]
    assert len(trained) == len(set(trained)) == sum(2 * len(row.learning_rates) for row in result.rows)
    # Only the best of each was examined, by its own weights.
    assert sorted(examined) == sorted((name, row.learning_rate, seed) for name, row in rows.items() for seed in (0, 1))
    assert calls[-1][:2] == (len(trained) + len(examined),) * 2


def test_rows_that_stay_at_an_edge_are_named_with_the_number_of_extensions(planted, tmp_path):
    result = planted[0]
    lines = search_lines(result)
    assert lines[:2] == [
        "The best learning rate is the lowest one tried after 3 extensions, so another may do better: PReLU (8.1e-06).",
        "The best learning rate is the highest one tried after 3 extensions, so another may do better: Centered "
        "(0.081).",
    ]
    write_json(result, tmp_path / "s.json")
    document = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert document["search"] == lines
    assert [row["learning_rate_edge"] for row in document["rows"]] == [None] * 5 + ["highest", "lowest"]
    assert document["rows"][3]["learning_rates"] == [3e-4, 1e-3, 3e-3, 9e-3, 2.7e-2]


def test_without_extensions_a_row_at_an_edge_is_still_named():
    assert search_lines(made_up({"ReLU": [0.8], "Centered": [0.9]})) == [
        "The best learning rate is the only one tried, so another may do better: ReLU (0.001) and Centered (0.001)."
    ]


# --- epochs


@pytest.mark.parametrize(
    ("accuracies", "flat"),
    [
        ([0.1, 0.5, 0.9], False),
        ([0.1, 0.5, 0.9, 0.8], False),
        ([0.1, 0.9, 0.901, 0.902], True),
        ([0.1, 0.9, 0.8, 0.903], False),
        ([0.9, 0.1, 0.2, 0.3], True),
    ],
)
def test_validation_is_flat_where_its_best_no_longer_rises(accuracies, flat):
    assert Settings(patience=2).flat(accuracies) is flat
    assert not Settings(patience=0).flat(accuracies)


def test_a_training_ends_at_the_first_epoch_where_validation_is_flat(blobs):
    settings = Settings(network="cnn", depth=2, width=8, epochs=200, patience=3, batch_size=10)
    run, _ = training.train(blobs, settings, choose_rows(30, "cnn")[0][3], 0, 1e-2)
    assert 6 <= len(run.loss) == len(run.validation_accuracy) < 200
    assert settings.flat(run.validation_accuracy)
    assert not any(settings.flat(run.validation_accuracy[:epochs]) for epochs in range(len(run.loss)))


def test_a_training_that_ended_counts_on_with_its_last_accuracy():
    row = made_up({"ReLU": [0.5, 0.6]}).rows[0]
    short, long = (dataclasses.replace(run, loss=(1.0,) * n, validation_accuracy=values) for run, n, values in (
        (row.runs[0], 2, (0.2, 0.4)), (row.runs[1], 3, (0.4, 0.6, 0.8))))  # fmt: skip
    row = dataclasses.replace(row, runs=(short, long))
    assert row.epochs == (2, 3)
    assert row.by_epoch() == pytest.approx([0.3, 0.5, 0.6])


def test_the_rule_and_the_epochs_are_stated():
    settings = Settings(network="cnn", depth=30, width=16, patience=5, epochs=40)
    result = made_up({"ReLU": [0.5, 0.6], "Tailored": [0.7, 0.8]}, settings=settings)
    assert search_lines(result)[-1] == (
        "Trained for epochs until validation is flat (its best accuracy of the last 5 at most 0.2 points above the "
        "best before), at most 40: 1 to 1 epochs; validation was not flat at the end in 4 of 4 trainings."
    )
    document = result.to_dict()
    assert document["training"] == settings.length
    assert document["runs_not_flat"] == 4
    assert document["rows"][0]["epochs"] == [1, 1]
    assert document["network"] == "plain convolutional 30-layer network"


# --- sentences


@pytest.mark.parametrize(
    ("study", "sentences"),
    [
        (
            made_up(
                {"ReLU": [0.3, 0.4, 0.5], "Leaky 0.2": [0.6, 0.7, 0.8], "Tailored": [0.7, 0.72, 0.74]},
                settings=default_settings("cnn"),
            ),
            (
                "In a plain convolutional 30-layer network on some data, Tailored (slope 0.303) was the most accurate "
                "with 72.0 % of the test samples right, 32.0 points above ReLU's 40.0 % (medians of 3 seeds, whose "
                "ranges do not overlap); after training the share of silent units was 0.0 % under ReLU and 0.0 % under "
                "Tailored.",
                "By formula: the slope 0.303 keeps inputs apart (similarity of unrelated ones at most 0.9 at "
                "initialization, 0.972 under ReLU). In test accuracy it was 32.0 points above ReLU (medians of 3 "
                "seeds, whose ranges do not overlap) and 2.0 points above Leaky 0.2 (medians of 3 seeds, but their "
                "ranges overlap: a hint, no more).",
            ),
        ),
        (
            made_up(
                {"ReLU": [0.5, 0.5], "Leaky 0.2": [0.9, 0.9], "Tailored": [0.5, 0.5]},
                settings=default_settings("resnet"),
            ),
            (
                "In a residual 31-layer network without normalization on some data, Leaky 0.2 (slope 0.2) was the most "
                "accurate with 90.0 % of the test samples right, 40.0 points above ReLU's 50.0 % (medians of 2 seeds, "
                "whose ranges do not overlap); after training the share of silent units was 0.0 % under ReLU and 0.0 % "
                "under Leaky 0.2.",
                "By formula: the slope 0.0556 keeps inputs apart (similarity of unrelated ones at most 0.9 at "
                "initialization, 0.915 under ReLU). In test accuracy it was equal to ReLU (medians of 2 seeds: a tie) "
                "and 40.0 points below Leaky 0.2 (medians of 2 seeds, whose ranges do not overlap).",
            ),
        ),
        (
            made_up(
                {"ReLU": [0.95, 0.97], "Leaky 0.2": [0.96, 0.96], "PReLU": [0.97, 0.98]},
                settings=default_settings("resnet-bn"),
            ),
            (
                "In a residual 31-layer network with batch normalization on some data, PReLU (learned from 0.25) was "
                "the most accurate with 97.5 % of the test samples right, 1.5 points above ReLU's 96.0 % (medians of 2 "
                "seeds, but their ranges overlap: a hint, no more); after training the share of silent units was 0.0 % "
                "under ReLU and 0.0 % under PReLU.",
                "No slope is chosen by formula: even ReLU leaves unrelated inputs at a similarity of 0.318. The "
                "medians of the rows lie between 96.0 % and 97.5 %.",
            ),
        ),
    ],
    ids=["cnn", "resnet", "resnet-bn"],
)
def test_the_sentences_hold_for_every_network_and_claim_only_that_inputs_stay_apart(study, sentences, tmp_path):
    assert (concluding_sentence(study), formula_sentence(study)) == sentences
    write_json(study, tmp_path / "s.json")
    document = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert (document["reading"], document["by_formula"]) == sentences
    assert "best slope" not in " ".join(sentences)


# --- where the trainings run

CLUSTER = """
import sys
import dask
from distributed import LocalCluster
from leakyrelu.cli import main

if __name__ == "__main__":
    dask.config.set({"distributed.comm.timeouts.connect": "120s"})
    for workers in (2, 0):
        with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
            address = cluster.scheduler_address
            print(address, main(["study", *sys.argv[1:], "--scheduler", address]))
"""


def test_two_workers_of_a_cluster_give_the_figures_of_one_process(blobs, tmp_path, monkeypatch):
    """By the command; a cluster without workers is refused."""
    monkeypatch.chdir(tmp_path)
    parts = (blobs.train, blobs.validation, blobs.test)
    np.savez("blobs.npz", X=np.concatenate([part.x for part in parts]), y=np.concatenate([part.y for part in parts]))
    arguments = ["--data", "blobs.npz", "--network", "resnet-bn", "--depth", "3", "--width", "4", "--epochs", "3",
                 "--patience", "1", "--seeds", "2", "--lr", "1e-3,1e-2", "--extend", "1"]  # fmt: skip
    assert main(["study", *arguments, "--jobs", "1", "--json", "one.json"]) == 0
    Path("cluster.py").write_text(CLUSTER)
    done = subprocess.run(
        [sys.executable, "cluster.py", *arguments, "--json", "two.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    statuses = [line.split() for line in done.stdout.splitlines() if line.startswith("tcp://")]
    assert [status for _, status in statuses] == ["0", "2"], done.stderr[-3000:]
    empty = statuses[1][0]
    refusal = f"the scheduler {empty} has no workers: start them with 'dask worker {empty}'"
    assert f"leakyrelu: {refusal}" in done.stderr.splitlines()

    one, two = (json.loads(Path(name).read_text("utf-8")) for name in ("one.json", "two.json"))
    assert (one["workers"], two["workers"]) == (1, 2)
    for document in (one, two):
        for row in document["rows"]:
            row.pop("seconds")
            for run in row["runs"]:
                run.pop("seconds")
    assert two["rows"] == one["rows"]
    assert {len(row["learning_rates"]) for row in one["rows"]} == {3}  # two rates are always at an edge


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "tcp://127.0.0.1:9",
            r"^the scheduler tcp://127\.0\.0\.1:9 cannot be reached \(Timed out .*\): start one with 'dask scheduler', "
            "whose output names its address$",
        ),
        ("nonsense", r"^the scheduler nonsense cannot be reached \(missing port number in address 'nonsense'\): start"),
    ],
)
def test_a_scheduler_that_cannot_be_reached_is_named(blobs, monkeypatch, address, message):
    monkeypatch.setattr(workers, "_PATIENCE", 1)
    with pytest.raises(SchedulerError, match=message):
        run_study(blobs, Settings(depth=1, width=2), scheduler=address)


def test_a_worker_with_another_version_or_none_is_named():
    class Client:
        def __init__(self, answer):
            self.answer = answer

        def run(self, function, name):
            assert (function, name) == (metadata.version, "leakyrelu")
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    ours = leakyrelu.__version__
    workers._check_versions(Client({"tcp://a:1": ours}), "tcp://s:1")
    remedy = f"install leakyrelu {ours} with its extra 'study' where 'dask worker' runs"
    with pytest.raises(SchedulerError) as caught:
        workers._check_versions(Client({"tcp://a:1": ours, "tcp://b:1": "0.0.1"}), "tcp://s:1")
    assert str(caught.value) == f"the worker tcp://b:1 of the scheduler tcp://s:1 has leakyrelu 0.0.1: {remedy}"
    with pytest.raises(SchedulerError) as caught:
        workers._check_versions(Client(metadata.PackageNotFoundError("leakyrelu")), "tcp://s:1")
    assert str(caught.value) == f"a worker of the scheduler tcp://s:1 has no leakyrelu: {remedy}"


def test_data_that_the_network_cannot_take_are_refused_with_their_name(blobs):
    odd = dataclasses.replace(blobs, shape=(1, 2, 2, 2))
    with pytest.raises(
        DataError, match=r"^blobs: a sample has shape \(1, 2, 2, 2\), and the network 'cnn' takes series"
    ):
        run_study(odd, Settings(network="cnn", depth=2), workers=1)


def test_the_page_of_a_network_names_it_and_its_recipe(planted, tmp_path):
    write_html(planted[0], tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text("utf-8")
    for text in (
        "One plain convolutional 30-layer network, 7 activations",
        "The same plain convolutional network (30 layers of 16 channels, convolutions of 3 with zero padding, the mean "
        "over places before the readout, no skip connections, no normalization) trained on blobs",
        "Adam, epochs until validation is flat (its best accuracy of the last 10 at most 0.2 points above the best "
        "before), at most 60, 2 seeds; learning rate the best of 0.0003, 0.001, 0.003, extended up to 3 times where "
        "the best is the lowest or the highest, on the validation data.",
        formula_sentence(planted[0]),
        *search_lines(planted[0]),
    ):
        assert text in page
