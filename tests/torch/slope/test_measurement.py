"""measure_slope: against a simulation in NumPy, a closed form and networks with the slope written in."""

import math
import random

import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
from oracle.similarity import last_activation, ratio_of_means, slope_for, through_layers
from torch import nn

from leakyrelu.slope import gain, tailored
from leakyrelu.torch.slope import measure_slope

DEPTH, WIDTH, SAMPLES = 6, 48, 7


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(depth=DEPTH, width=WIDTH, activation=nn.ReLU, initialize=nn.init.orthogonal_):
    """Function of the slope that makes a plain network without biases."""

    def make(slope):
        layers = []
        for number in range(depth):
            linear = nn.Linear(width, width, bias=False)
            initialize(linear.weight)
            with torch.no_grad():
                linear.weight *= gain(slope) if number else 1.0
            layers += [linear, activation()]
        return nn.Sequential(*layers)

    return make


def fixed(depth=DEPTH, width=WIDTH, **options):
    return lambda: plain(depth, width, **options)(0.2)


def value_at(result, slope):
    return next(each.value for each in result.similarity if each.slope == slope)


def values(result):
    return [(each.slope, each.value) for each in result.similarity]


class Recorded:
    """Function that makes plain networks, and the weights of those that it made, by their first number."""

    def __init__(self):
        self.networks = {}

    def __call__(self):
        model = fixed()()
        weights = [each.detach().double().numpy().copy() for each in model.parameters()]
        self.networks[weights[0][0, 0]] = weights
        return model


def test_every_number_is_that_of_a_simulation_in_numpy():
    make, inputs = Recorded(), noise(SAMPLES, WIDTH)
    result = measure_slope(make, inputs, eta=0.7, inits=5)
    networks = list(make.networks.values())
    assert len(networks) == 5

    def simulated(some, slope):
        return ratio_of_means([last_activation(weights, inputs, slope) for weights in some])

    for slope, value, error in result.similarity:
        expected, expected_error = simulated(networks, slope)
        assert value == pytest.approx(expected, abs=1e-6)
        assert error == pytest.approx(expected_error, rel=1e-3, abs=1e-6)

    def crossing(some):
        return scipy.optimize.brentq(lambda slope: simulated(some, slope)[0] - 0.7, 0, 1)

    assert result.slope == pytest.approx(crossing(networks), abs=5e-4)
    # The jackknife of the solution itself, which the delta method is close to.
    without = [crossing(networks[:k] + networks[k + 1 :]) for k in range(5)]
    jackknife = math.sqrt(4 / 5 * sum((each - np.mean(without)) ** 2 for each in without))
    assert result.standard_error == pytest.approx(jackknife, rel=0.1)


@pytest.mark.parametrize(
    ("width", "initialize"), [(192, nn.init.orthogonal_), (256, lambda weight: nn.init.normal_(weight, 0.0, 1 / 16))]
)
def test_a_wide_plain_network_gets_the_slope_of_the_closed_form(width, initialize):
    result = measure_slope(plain(6, width, initialize=initialize), noise(24, width), eta=0.6, inits=10)
    expected = slope_for(0.6, 6)
    assert expected == pytest.approx(tailored(6, 0.6), abs=1e-9)
    assert abs(result.slope - expected) < 3 * result.standard_error < 0.05
    assert value_at(result, 0.0) == pytest.approx(through_layers(0.0, 6), abs=0.02)


class Functions(nn.Module):
    """Every way to call a ReLU or Leaky ReLU, in a forward method that torch.fx cannot trace."""

    calls = (
        F.relu,
        torch.relu,
        torch.Tensor.relu,
        lambda x: F.relu(x, inplace=True),
        lambda x: x.relu_(),
        lambda x: x.clamp(min=0),
        lambda x: torch.clamp_min(x, 0.0),
        lambda x: F.threshold(x, 0.0, 0.0),
        lambda x: F.leaky_relu(x, 0.01),
        lambda x: F.leaky_relu_(x, 0.4),
        torch.ops.aten.relu,
    )

    def __init__(self, activations=calls):
        super().__init__()
        self.activations = activations
        layers = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in activations]
        for layer in layers:
            nn.init.orthogonal_(layer.weight)
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x = activation(layer(x) if float(x.sum()) < 1e9 else x)
        return x


def test_every_call_of_a_rectifier_gets_the_slope():
    result = measure_slope(Functions, noise(SAMPLES, WIDTH), eta=0.7, inits=3)
    modules = measure_slope(fixed_modules, noise(SAMPLES, WIDTH), eta=0.7, inits=3)
    assert dict(result.calls) == {"relu": 6, "clamp(min=0)": 2, "threshold": 1, "leaky_relu": 2}
    assert (result.slope, values(result)) == (modules.slope, values(modules))


def fixed_modules():
    layers = Functions().layers
    return nn.Sequential(*[each for layer in layers for each in (layer, nn.LeakyReLU(0.3, inplace=True))])


def test_a_clamp_of_integers_limits_indices_and_is_no_activation():
    class Embeds(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.body = nn.Embedding(9, WIDTH), fixed()()

        def forward(self, tokens):
            return self.body(self.table(tokens.clamp(min=0)))

    result = measure_slope(Embeds, torch.arange(-1, 8), eta=0.7, inits=3)
    assert result.calls == (("relu", DEPTH),)
    assert result.slope is not None


def test_an_in_place_call_overwrites_its_input_with_the_slope():
    class Reads(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.first, self.second, self.act = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), act

        def forward(self, x):
            h = self.first(x)
            y = self.act(h)
            return F.relu(self.second(y if self.act is F.relu else h))

    inputs = noise(SAMPLES, WIDTH)
    expected = measure_slope(lambda: Reads(F.relu), inputs, eta=0.3, inits=2)
    assert values(measure_slope(lambda: Reads(torch.relu_), inputs, eta=0.3, inits=2)) == values(expected)


def test_the_last_activation_is_read_before_it_is_overwritten():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = fixed()()

        def forward(self, x):
            y = self.body(x)
            y += 5.0
            return y.sin_()

    inputs = noise(SAMPLES, WIDTH)
    overwritten = measure_slope(Overwrites, inputs, eta=0.7, inits=3)
    assert values(overwritten) == values(measure_slope(fixed(), inputs, eta=0.7, inits=3))


class Moved(nn.Module):
    """A network on 5 places whose activations have the samples on another axis."""

    def __init__(self, move, back):
        super().__init__()
        self.body, self.move, self.back = fixed()(), move, back

    def forward(self, x):
        return self.back(self.body(self.move(x)))


@pytest.mark.parametrize("places", [5, SAMPLES, 2 * SAMPLES])
@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.transpose(0, 1),
        lambda x: x.flatten(0, 1),
        lambda x: x.transpose(0, 1).flatten(0, 1),
    ],
    ids=["places first", "sample by sample", "place by place"],
)
def test_samples_are_found_where_a_layer_has_moved_them(places, move):
    inputs = noise(SAMPLES, places, WIDTH)
    expected = measure_slope(fixed(), inputs, eta=0.7, inits=2)
    found = measure_slope(lambda: Moved(move, lambda x: x), inputs, eta=0.7, inits=2)
    assert [each for _, each in values(found)] == pytest.approx([each for _, each in values(expected)], abs=1e-5)


def test_the_slope_goes_to_a_function_that_takes_it():
    seen = []

    def required(slope):
        seen.append(slope)
        return plain()(slope)

    inputs = noise(SAMPLES, WIDTH)
    result = measure_slope(required, inputs, eta=0.7, inits=2)
    assert set(seen) >= {0.0, 0.01, 1.0, result.slope}
    # Weights of one scale: in a network without biases it makes no difference.
    assert measure_slope(fixed(), inputs, eta=0.7, inits=2).slope == pytest.approx(result.slope, abs=2e-3)

    def optional(negative_slope=0.25):
        seen.append(negative_slope)
        return plain()(negative_slope)

    def pretrained(pretrained=False, **kwargs):
        assert pretrained is False
        return fixed()()

    seen.clear()
    measure_slope(optional, inputs, eta=0.7, inits=2)
    assert 0.01 in seen
    assert 0.25 not in seen
    measure_slope(pretrained, inputs, eta=0.7, inits=2)


def test_generators_inputs_and_gradient_mode_are_left_as_they_were():
    inputs = noise(SAMPLES, WIDTH).requires_grad_()
    before = inputs.detach().clone()

    modes = []

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = fixed()()

        def forward(self, x):
            modes.append((self.training, torch.is_grad_enabled()))
            random.random()
            np.random.rand()  # noqa: NPY002
            return self.body(F.dropout(x.relu_(), 0.5, self.training))

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)

    measure_slope(InPlace, inputs, inits=2)
    # The axis of the samples is found in evaluation mode; all that is measured is in the mode of the model.
    assert modes[:2] == [(False, False)] * 2
    assert set(modes[2:]) == {(True, False)}
    assert (random.random(), np.random.rand(), torch.rand(())) == expected  # noqa: NPY002
    assert torch.equal(inputs, before)
    assert inputs.requires_grad
    assert inputs.grad is None
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("training", [True, False])
def test_normalization_and_dropout_run_in_the_mode_of_the_model(training):
    def make():
        layers = [(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.5)) for _ in range(4)]
        return nn.Sequential(*(each for layer in layers for each in layer)).train(training)

    result = measure_slope(make, noise(SAMPLES, WIDTH), eta=0.5, inits=3)
    # Batch norm keeps inputs apart; in evaluation, with its first statistics, it does nothing.
    assert (value_at(result, 0.0) < 0.5) == training
    assert measure_slope(make, noise(SAMPLES, WIDTH), eta=0.5, inits=3) == result


def test_the_same_seed_gives_the_same_answer_and_another_seed_another():
    inputs = noise(SAMPLES, WIDTH)
    first = measure_slope(fixed(), inputs, eta=0.7, inits=2)
    torch.manual_seed(99)
    assert measure_slope(fixed(), inputs, eta=0.7, inits=2) == first
    assert measure_slope(fixed(), inputs, eta=0.7, inits=2, seed=1).slope != first.slope


def test_arguments_in_a_tuple_or_by_name_and_lazy_layers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.LazyLinear(WIDTH, bias=False)

        def forward(self, x, scale, shift=None):
            return F.relu(self.layer(x * scale if shift is None else x * scale + shift))

    inputs, scale = noise(SAMPLES, WIDTH), torch.tensor(2.0)
    by_position = measure_slope(Two, (inputs, scale), eta=0.2, inits=2)
    by_name = measure_slope(Two, {"x": inputs, "scale": scale, "shift": torch.zeros(SAMPLES, 1)}, eta=0.2, inits=2)
    assert by_position == by_name
    assert by_position.slope is not None


@pytest.mark.parametrize("training", [True, False])
def test_a_transformer_whose_evaluation_pytorch_fuses(training):
    def make():
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)

    def separate():
        model = make()
        for layer in model.layers:
            layer.activation, layer.activation_relu_or_gelu = (lambda x: F.leaky_relu(x, 0.7)), 0
        return model

    inputs = noise(4, 5, 32)
    fused, plain_calls = (measure_slope(each, inputs, eta=0.3, inits=2) for each in (make, separate))
    assert values(fused) == values(plain_calls)
    assert fused.calls == (("relu", 2),)
