"""What measure_slope answers where there is no slope, how answers print, and which calls it refuses."""

import json
import re
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.slope import gain
from leakyrelu.torch import CenteredLeakyReLU, NormLeakyReLU
from leakyrelu.torch.slope import SlopeMeasurement, measure_slope

WIDTH = 24


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def plain(depth, activation=nn.ReLU):
    """Network of orthogonal weights, without biases."""
    layers = []
    for _ in range(depth):
        linear = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.orthogonal_(linear.weight, gain(0.2))
        layers += [linear, activation()]
    return nn.Sequential(*layers)


def pytorch_default(depth):
    return nn.Sequential(*[each for _ in range(depth) for each in (nn.Linear(WIDTH, WIDTH), nn.LeakyReLU())])


def test_even_relu_stays_below_eta():
    result = measure_slope(lambda: plain(2), noise(6, WIDTH), inits=4)
    assert (result.slope, result.standard_error) == (None, None)
    assert [each.slope for each in result.similarity] == [0.0, 0.01]
    number = r"0\.\d{3}"
    reason = rf"keep 0\.01: even under ReLU similarity stays at {number} \(standard error {number}\), below 0\.9"
    assert re.fullmatch(reason, result.reason)


def test_the_default_initialization_makes_all_inputs_alike_at_every_slope():
    result = measure_slope(lambda: pytorch_default(40), noise(6, WIDTH), inits=4)
    assert result.slope is None
    assert [(each.slope, round(each.value, 3)) for each in result.similarity] == [(0.0, 1.0), (0.01, 1.0), (1.0, 1.0)]
    assert result.reason == (
        "no slope: even slope 1 brings pairs to 1.000 (standard error 0.000), above 0.9 (1.000 at 0.01); what is "
        "between the activations does that, as a rule weights and biases as PyTorch draws them: initialize them with "
        "leakyrelu.slope.gain and zero first"
    )


def test_samples_that_are_alike_themselves_are_named():
    result = measure_slope(lambda: plain(4), noise(6, WIDTH) + 5.0, inits=4)
    assert result.slope is None
    assert re.search(
        r"above 0\.9 .*; the samples themselves are 0\.9\d\d alike: give unrelated ones, with their mean subtracted$",
        result.reason,
    )


def test_no_slope_is_named_where_its_standard_error_is_large():
    result = measure_slope(lambda: plain(6), noise(3, WIDTH), eta=0.5, inits=2, seed=1)
    assert result.slope is None
    assert result.standard_error > 0.05
    assert re.fullmatch(
        r"no slope: 0\.5 is reached near 0\.\d{3}, with a standard error of 0\.\d{3}, above 0\.05; more than 2 "
        r"initializations or 3 samples make it smaller",
        result.reason,
    )
    # More initializations do make it smaller.
    assert measure_slope(lambda: plain(6), noise(12, WIDTH), eta=0.5, inits=24).slope is not None


RESULT = SlopeMeasurement(
    slope=0.25,
    standard_error=0.02,
    similarity=((0.0, 0.97, 0.001), (0.25, 0.9, 0.01), (1.0, float("nan"), 0.0)),
    reason="0.250: because",
    eta=0.9,
    inits=4,
    samples=6,
    calls=(("relu", 3), ("clamp(min=0)", 1)),
)


def test_repr_is_a_report():
    assert repr(RESULT).splitlines() == [
        "0.250: because",
        "",
        "similarity of unrelated inputs at the last of 4 activations (3 relu and 1 clamp(min=0)),",
        "4 initializations, 6 samples:",
        "   slope  similarity  standard error",
        "  0.0000      0.9700          0.0010",
        "  0.2500      0.9000          0.0100",
        "  1.0000         nan          0.0000",
    ]


def test_json_holds_every_field():
    result = measure_slope(lambda: plain(6), noise(12, WIDTH), eta=0.7, inits=12)
    found = json.loads(result.to_json())
    assert list(found) == [each.name for each in fields(SlopeMeasurement)]
    assert found["slope"] == result.slope
    assert found["similarity"] == [each._asdict() for each in result.similarity]
    assert [each["slope"] for each in found["similarity"]] == [0.0, 0.01, result.slope, 1.0]
    assert found["calls"] == [["relu", 6]]
    assert repr(result).startswith(f"{result.slope:.3f}, with a standard error of {result.standard_error:.3f}: with it")


def test_progress_ends_at_its_total():
    steps = []
    measure_slope(lambda: plain(6), noise(6, WIDTH), eta=0.7, inits=3, progress=lambda *step: steps.append(step))
    done = [each for each, _ in steps]
    assert done == [*range(1, len(steps)), len(steps) - 1]
    assert all(done <= total for done, total in steps)
    assert steps[-1] == (len(steps) - 1, len(steps) - 1)


def refused(error, text, make=lambda: plain(2), inputs=None, **options):
    with pytest.raises(error, match=f"^{re.escape(text)}"):
        measure_slope(make, noise(4, WIDTH) if inputs is None else inputs, **{"inits": 2, **options})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"eta": 1.0}, ValueError, "eta must lie between 0 and 1, both excluded, not 1.0: it is a cosine similarity;"),
        ({"eta": 0}, ValueError, "eta must lie between 0 and 1, both excluded, not 0.0"),
        ({"eta": float("nan")}, ValueError, "eta must lie between 0 and 1, both excluded, not nan"),
        ({"eta": "0.9"}, TypeError, "eta must be a number, not str: '0.9'"),
        ({"inits": 1}, ValueError, "inits must be at least 2, got 1"),
        ({"inits": 2.0}, TypeError, "inits must be an integer, not float: 2.0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, error, text):
    refused(error, text, **options)


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        (
            [[0.5]],
            TypeError,
            "inputs must be a tensor with samples along its first axis, or a tuple or dict of arguments with one, not "
            "list: [[0.5]]",
        ),
        (
            torch.ones(1, WIDTH),
            ValueError,
            f"inputs of shape (1, {WIDTH}) hold less than two samples along the first axis, and similarity is that of "
            "pairs; give at least two unrelated samples, 8 or more for a small error",
        ),
        (torch.tensor(1.0), ValueError, "inputs of shape () hold less than two samples"),
        (
            torch.full((4, WIDTH), float("nan")),
            ValueError,
            "the outputs of the last activation are not finite at slope 1 (initialization 0); look for NaN in the "
            "inputs, and scale the weights so that signals keep their size (leakyrelu.slope.gain)",
        ),
        (torch.zeros(4, WIDTH), ValueError, "the outputs of the last activation are all zero at slope 1 (init"),
    ],
)
def test_inputs_without_pairs_are_refused(inputs, error, text):
    refused(error, text, inputs=inputs)


MODEL, GENERATOR = plain(2), torch.Generator()


def shared():
    return MODEL


def seeded():
    torch.manual_seed(3)
    return plain(2)


def unseeded():
    model = plain(2)
    with torch.no_grad():
        for each in model.parameters():
            each.normal_(generator=GENERATOR)
    return model


class TakesTwo(nn.Module):
    def __init__(self, width, depth):
        super().__init__()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            MODEL,
            TypeError,
            "make must be a function that returns a new model, not Sequential: Sequential(\n  (0): Linear",
        ),
        (None, TypeError, "make must be a function that returns a new model, not NoneType: None; weights are drawn "),
        (lambda: 3, TypeError, "make must return a torch.nn.Module, not int: 3"),
        (
            TakesTwo,
            TypeError,
            "make takes width and depth, and measure_slope calls it with the slope at most; give a function without "
            "the others, such as a lambda or functools.partial",
        ),
        (shared, ValueError, "make returned the same model twice; it must build a new one each time it is called"),
        (
            seeded,
            ValueError,
            "make gave the same weights for different seeds; it must draw them each time, and neither load them nor "
            "set a seed itself",
        ),
        (
            unseeded,
            ValueError,
            "make gave different weights for the same seed; draw them from the global generators of PyTorch, NumPy or "
            "Python, which are seeded before each call",
        ),
        (
            lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()),
            ValueError,
            "the model has no activation whose slope could be set: it called no ReLU and no Leaky ReLU in its forward "
            "pass, as a module or a function",
        ),
    ],
)
def test_functions_that_make_no_random_models_are_refused(make, error, text):
    refused(error, text, make)


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(WIDTH, WIDTH), function

    def forward(self, x):
        return F.relu(self.function(self.layer(x)))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu6", F.relu6),
        ("hardtanh", nn.ReLU6()),
        ("prelu", nn.PReLU()),
        ("rrelu", F.rrelu),
        ("clamp", lambda x: x.clamp(0, 1)),
        ("threshold", lambda x: F.threshold(x, 0.1, 0.0)),
        ("clamp", lambda x: torch.clamp(x, min=0, out=torch.empty_like(x))),
    ],
)
def test_rectifiers_without_a_slope_are_named_with_their_place(name, function):
    text = (
        rf"the model calls {name} \(test_measurement_answers\.py:\d+\), which has no single slope that could be set; "
        r"measure a model with torch\.nn\.LeakyReLU in its place"
    )
    with pytest.raises(ValueError, match=f"^{text}$"):
        measure_slope(lambda: Calls(function), noise(4, WIDTH), inits=2)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            lambda: torch.jit.script(nn.ReLU()),
            "it is scripted, which hides what it calls; measure the model that it was scripted from",
        ),
        (
            lambda: torch.compile(nn.ReLU(), backend="eager"),
            "it is compiled by torch.compile, and compiled code calls no function; measure the model uncompiled",
        ),
        (
            lambda: nn.RNN(WIDTH, WIDTH, nonlinearity="relu"),
            'an RNN computes its nonlinearity="relu" inside; write its steps as layers with torch.nn.ReLU',
        ),
        (
            lambda: CenteredLeakyReLU(0.1),
            "a CenteredLeakyReLU shifts and scales by its own slope; leakyrelu.slope.centered chooses a slope for it",
        ),
        (
            lambda: NormLeakyReLU(nn.BatchNorm1d(WIDTH), 0.1),
            "a NormLeakyReLU computes a normalization and an activation at once; measure the model before save_memory",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_modules_that_hide_their_activation_are_named(layer, reason):
    refused(ValueError, f"the slope of 1 cannot be set: {reason}", lambda: nn.Sequential(plain(1), layer()))


def test_a_model_that_does_not_always_run_its_last_activation_is_refused():
    class Random(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(3)

        def forward(self, x):
            x = self.body(x)
            return F.relu(x) if self.training and torch.rand(()) < 0.5 else x

    with pytest.raises(ValueError, match=r"^the model called \d activations in one forward pass and \d in another, so"):
        measure_slope(Random, noise(4, WIDTH), inits=32)


def test_a_model_that_mixes_its_samples_is_refused():
    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, x):
            return F.relu(self.body(x.t()).sum(0))[:3]

    refused(
        ValueError,
        "no axis of the output of the last activation, of shape (4,), holds the 4 samples of the inputs; give a model "
        "whose inputs have samples along the first axis, and which treats each of them alike",
        Mixes,
    )
