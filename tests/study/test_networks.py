"""The networks of the study beside the plain one, their slopes by formula, and the data set MNIST-1D."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from leakyrelu import slope
from leakyrelu.study import ARCHITECTURES, Data, Part, Row, Settings, choose_rows, digits, mnist1d, training
from leakyrelu.study.networks import Residual, build, check_shape, hidden
from leakyrelu.study.variants import centered_slope, formula_slope, similarity

RELU = Row("ReLU", 0.0, "no slope", "relu")
CENTERED = Row("Centered", 0.5, "planted", "centered")
CONVOLUTIONAL = [name for name in ARCHITECTURES if name != "mlp"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def series() -> Data:
    return mnist1d()


def rectifiers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if type(module).__name__.endswith(("ReLU", "LeakyReLU"))]


# --- networks


@pytest.mark.parametrize("shape", [(12,), (8, 6), (3, 8, 6)], ids=["series", "image", "color"])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("row", choose_rows(31, "resnet")[0], ids=lambda row: row.name)
def test_a_network_has_as_many_layers_as_its_depth(name, shape, row):
    network = build(row, network=name, shape=shape, classes=7, depth=5, width=4, seed=0)
    assert network(torch.randn(2, math.prod(shape))).shape == (2, 7)
    assert len(hidden(network)) == len(rectifiers(network)) == 5
    kind = nn.Conv1d if len(shape) == 1 else nn.Conv2d
    assert all(isinstance(layer, kind) for layer in hidden(network))
    normalizations = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(normalizations) == (5 if name == "resnet-bn" else 0)
    assert len([m for m in network.modules() if isinstance(m, Residual)]) == (0 if name == "cnn" else 2)


def test_every_row_gets_the_same_directions_in_a_residual_network():
    rows = choose_rows(31, "resnet")[0]
    networks = [build(row, network="resnet", shape=(12,), classes=7, depth=5, width=4, seed=1) for row in rows]
    for layers in zip(*[hidden(network) for network in networks], strict=True):
        for layer in layers[1:]:
            torch.testing.assert_close(layer.weight / layer.weight.norm(), layers[0].weight / layers[0].weight.norm())


@pytest.mark.parametrize("row", [RELU, CENTERED], ids=["ReLU", "Centered"])
def test_each_sum_doubles_the_second_moment_and_the_last_layer_undoes_it(row):
    network = build(row, network="resnet", shape=(256,), classes=64, depth=13, width=64, seed=0)
    sizes = []
    for module in network:
        if isinstance(module, Residual):
            # The rim is left out: of a patch there, a part is zero.
            module.register_forward_hook(lambda m, x, y: sizes.append(y[..., 20:-20].square().mean().item()))
    with torch.no_grad():
        network(torch.randn(32, 256))
    assert np.array(sizes) == pytest.approx(2.0 ** np.arange(1, 7), rel=0.25)
    top = network.readout.weight.detach().norm() / math.sqrt(64)
    assert float(top) == pytest.approx(row.scale * 2.0**-3, rel=1e-4)


def test_a_centered_activation_keeps_its_mean_at_zero_however_large_its_input_is():
    network = build(CENTERED, network="resnet", shape=(12,), classes=7, depth=13, width=4, seed=0)
    x = torch.randn(200_000)
    last = network.activation(8.0 * x)  # six blocks: second moment 64
    assert float(last.mean()) == pytest.approx(0.0, abs=0.06)
    assert float(last.square().mean()) == pytest.approx(64.0, rel=0.02)


def test_prelu_learns_its_slope(series):
    small = dataclasses.replace(series, train=Part(series.train.x[:256], series.train.y[:256]))
    row = choose_rows(30, "cnn")[0][-1]
    assert (row.name, row.kind, row.slope) == ("PReLU", "prelu", 0.25)
    _, weights = training.train(small, Settings(network="cnn", depth=2, width=4, epochs=2), row, 0, 1e-2)
    learned = [float(value[0]) for name, value in weights.items() if name.startswith("activation")]
    assert len(learned) == 2
    assert all(abs(value - 0.25) > 1e-3 for value in learned)


def test_statistics_of_batch_normalization_belong_to_what_was_trained(series):
    same = dataclasses.replace(series, test=series.validation)
    settings = Settings(network="resnet-bn", depth=3, width=4, epochs=1)
    run, weights = training.train(same, settings, RELU, 0, 3e-3)
    found = training.examine(same, settings, RELU, 0, weights)
    assert found.test_accuracy == run.validation_accuracy[-1]


def test_a_new_network_is_measured_with_the_statistics_of_the_training_data(series):
    settings = Settings(network="resnet-bn", depth=3, width=4, epochs=1)
    network = build(RELU, network="resnet-bn", shape=(40,), classes=10, depth=3, width=4, seed=0)
    weights = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    before = training.examine(series, settings, RELU, 0, weights).before

    network.train()
    x, y = torch.from_numpy(series.train.x), torch.from_numpy(series.train.y)
    signals = []
    for module in rectifiers(network):
        module.register_forward_hook(lambda m, x, y: signals.append(y.detach()))
    with torch.no_grad():
        network(x)  # all samples as one batch: normalized by their own statistics
    ratios = [float(signal.mean((0, 2)).norm() / signal.std((0, 2), correction=0).norm()) for signal in signals]
    assert before.mean_over_std == pytest.approx(ratios, rel=0.02)
    assert len(y) == len(x)


@pytest.mark.parametrize("shape", [(), (2, 3, 4, 5)])
def test_samples_of_a_shape_that_a_convolution_cannot_take_are_refused(shape):
    check_shape("mlp", shape)
    with pytest.raises(
        ValueError, match=r"a sample has shape \(.*\), and the network 'cnn' takes series \(n,\), images"
    ):
        check_shape("cnn", shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "vgg"}, "there is no network 'vgg'; there are mlp, cnn, resnet, resnet-bn"),
        ({"network": "resnet", "depth": 30}, "depth must be odd and at least 3, got 30; 29 would do"),
        ({"network": "resnet-bn", "depth": 1}, "depth must be odd and at least 3, got 1; 3 would do"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
        ({"extensions": -1}, "extensions must be at least 0, got -1"),
    ],
)
def test_settings_that_make_no_network_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


# --- slopes


def test_plain_networks_have_the_closed_formulas():
    assert formula_slope(50)[0] == slope.tailored(50)
    assert formula_slope(30, "cnn") == (slope.tailored(30), "tailored(30), eta = 0.9")
    assert centered_slope(30, "cnn")[0] == slope.centered(30)


def simulated(alpha: float, blocks: int, seed: int, width: int = 256, inputs: int = 64) -> float:
    """Ratio of means of the inner products of unrelated inputs in a random network x + f(x) of dense layers."""
    rng = np.random.default_rng(seed)
    gain = math.sqrt(2 / (1 + alpha**2) / width)

    def activated(x):
        return np.where(x > 0, x, alpha * x)

    x = rng.normal(size=(width, inputs))
    for _ in range(blocks):
        y = x
        for _ in range(2):
            y = gain * rng.normal(size=(width, width)) @ activated(y)
        x = x + y
    gram = (x := activated(x)).T @ x
    return float(gram[~np.eye(inputs, dtype=bool)].mean() / np.diag(gram).mean())


@pytest.mark.parametrize(("alpha", "blocks"), [(0.0, 4), (0.06, 15)])
def test_similarity_in_a_residual_network_is_that_of_random_ones(alpha, blocks):
    measured = np.mean([simulated(alpha, blocks, seed) for seed in range(8)])
    assert similarity(alpha, 2 * blocks + 1, "resnet") == pytest.approx(measured, abs=0.02)


def test_similarity_behind_batch_normalization_is_that_of_one_activation():
    """Inputs that have a mean in common: the first normalization takes it off, the next what each activation adds."""
    network = build(RELU, network="resnet-bn", shape=(64,), classes=7, depth=13, width=128, seed=0)
    seen = []
    for module in rectifiers(network):
        module.register_forward_hook(lambda m, x, y: seen.append(y.detach()))
    network(torch.randn(48, 64, generator=torch.Generator().manual_seed(0)) + 1.0)
    found = []
    for signal in seen:
        gram = torch.einsum("ict,jct->ij", signal, signal)
        off = ~torch.eye(len(gram), dtype=torch.bool)
        found.append(float(gram[off].mean() / gram.diagonal().mean()))
    assert found == pytest.approx([similarity(0.0, 13, "resnet-bn")] * 13, abs=0.03)


def test_the_slope_of_a_residual_network_reaches_the_similarity():
    chosen, source = formula_slope(31, "resnet")
    assert similarity(chosen, 31, "resnet") == pytest.approx(0.9, abs=1e-12)
    assert 0.05 < chosen < 0.065
    assert source == "similarity of unrelated inputs 0.9 after 15 blocks x + f(x)"
    assert formula_slope(101, "resnet")[0] > chosen


def test_a_residual_network_without_a_slope_by_formula_says_why():
    with pytest.raises(
        ValueError, match=r"in 10 blocks: even ReLU \(slope 0\) brings unrelated inputs only to 0\.8605"
    ):
        formula_slope(21, "resnet")
    rows, left_out = choose_rows(31, "resnet-bn")
    assert [row.name for row in rows] == ["ReLU", "Leaky 0.001", "Leaky 0.01", "Leaky 0.2", "Centered", "PReLU"]
    assert left_out == (
        "Tailored is left out: none: any slope keeps inputs apart, since batch normalization subtracts the mean that "
        "makes them alike (even under ReLU similarity stays at 0.32)",
    )


def test_the_centered_slope_of_a_residual_network_bends_as_much_as_that_of_a_plain_one():
    """The slope of the similarity map of the whole network at 1, by a difference."""
    alpha, source = centered_slope(31, "resnet")
    assert source == "zeta = 1.5 after 15 blocks x + f(x)"
    start = slope.correlation(alpha, 0.0)

    def centered(c: float) -> float:
        return (slope.correlation(alpha, c) - start) / (1 - start)

    step = 1e-9
    value = 1 - step
    for _ in range(15):
        value = (value + centered(centered(value))) / 2
    assert (1 - centered(value)) / step == pytest.approx(1.5, abs=2e-3)
    assert centered_slope(31, "resnet-bn")[0] == alpha


# --- MNIST-1D


def test_mnist1d_is_generated_without_a_download_and_the_same_every_time(series, monkeypatch):
    import mnist1d as package
    import requests

    monkeypatch.setattr(requests, "get", lambda *a, **k: pytest.fail("it downloads"))
    made = []
    generate = package.data.make_dataset
    monkeypatch.setattr(package.data, "make_dataset", lambda arguments: made.append(generate(arguments)) or made[0])
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    again = mnist1d()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # noqa: NPY002
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(again, part).x, getattr(series, part).x)
    assert (series.name, series.sample_shape, series.classes) == ("MNIST-1D", (40,), 10)
    assert [len(part.y) for part in (series.train, series.validation, series.test)] == [3000, 1000, 1000]

    theirs = np.concatenate([made[0]["x"], made[0]["x_test"]])
    ours = np.concatenate([series.train.x, series.validation.x, series.test.x])
    theirs = (theirs - theirs.mean(0)) / theirs.std(0)
    np.testing.assert_allclose(np.sort((ours - ours.mean(0)) / ours.std(0), axis=0), np.sort(theirs, axis=0), atol=1e-3)


def test_data_keep_the_shape_of_a_sample(tmp_path):
    assert digits().sample_shape == (8, 8)
    assert dataclasses.replace(digits(), shape=()).sample_shape == (64,)
