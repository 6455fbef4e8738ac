"""initialize: the gain of each layer, the weights that it draws, and what it leaves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from leakyrelu.torch import LeakyReLU, initialize, replace_relu

SLOPE = 0.3
GAIN = math.sqrt(2 / (1 + SLOPE**2))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm, self.act = nn.GroupNorm(2, width), LeakyReLU(SLOPE)

    def forward(self, x):
        return x + self.two(self.act(self.norm(self.one(self.act(x)))))


def test_layers_behind_an_activation_have_the_gain_and_others_1():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        Block(8),
        nn.AvgPool2d(2),
        nn.ConvTranspose2d(8, 8, 2, 2),
        LeakyReLU(SLOPE),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.LazyLinear(5),
    )
    x = torch.randn(2, 3, 10, 10)
    model(x)
    result = initialize(model, SLOPE, x)
    assert result.gains == pytest.approx({"0": 1.0, "1.one": GAIN, "1.two": GAIN, "3": 1.0, "7": GAIN})
    assert all(not each.bias.any() for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear))
    assert dict(result.left) == {
        "1.norm.weight": "not a linear layer or convolution",
        "1.norm.bias": "not a linear layer or convolution",
    }
    assert repr(result).splitlines() == [
        "5 layers initialized, 2 left",
        "  gain 1.0000  0, 3",
        f"  gain {GAIN:.4f}  1.one, 1.two, 7",
        "  left  1.norm.weight, 1.norm.bias: not a linear layer or convolution",
    ]


LAYERS = [
    (nn.Linear(32, 64), 32),
    (nn.Linear(64, 32), 64),
    (nn.Conv1d(16, 32, 5), 80),
    (nn.Conv2d(16, 32, 3, groups=4), 36),
    (nn.Conv2d(32, 32, 3, groups=32), 9),
    (nn.Conv3d(4, 8, 2), 32),
    (nn.ConvTranspose2d(16, 32, 2, 2), 16),
    (nn.ConvTranspose2d(16, 32, 4, 2), 64),
    (nn.ConvTranspose1d(16, 32, 3, groups=2), 24),
]


@pytest.mark.parametrize("weights", ["orthogonal", "normal"])
@pytest.mark.parametrize(("layer", "fan_in"), LAYERS)
def test_weights_have_the_mean_square_of_their_gain(layer, fan_in, weights):
    torch.manual_seed(0)
    initialize(layer, SLOPE, weights=weights)
    share = layer.weight.detach().double().square().mean() * fan_in
    # The first layer of a model is behind no activation.
    assert float(share) == pytest.approx(
        1.0, rel=1e-5 if weights == "orthogonal" else 6 * (2 / layer.weight.numel()) ** 0.5
    )


def test_orthogonal_weights_are_orthogonal_and_keep_each_signal():
    layer = nn.Linear(48, 48)
    initialize(layer, SLOPE)
    torch.testing.assert_close(layer.weight.detach() @ layer.weight.detach().T, torch.eye(48))


def test_without_inputs_each_layer_but_the_first_is_taken_to_be_behind_an_activation():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    assert initialize(model, 0.0).gains == pytest.approx({"0": 1.0, "1": 2**0.5, "3": 2**0.5})
    assert initialize(model, 0.0, torch.randn(2, 4)).gains == pytest.approx({"0": 1.0, "1": 1.0, "3": 2**0.5})


def test_the_size_of_the_signal_stays_where_pytorchs_own_weights_lose_it():
    torch.manual_seed(0)
    model = nn.Sequential(*[layer for _ in range(10) for layer in (nn.Linear(512, 512), nn.ReLU())])
    x = torch.randn(64, 512)
    assert model(x).detach().square().mean() < 0.01
    replace_relu(model, SLOPE)
    initialize(model, SLOPE, x)
    assert float(model(x).detach().square().mean()) == pytest.approx((1 + SLOPE**2) / 2, rel=0.2)


class Plain(nn.Module):
    """A residual block without normalization, its activation behind the sum."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.act = nn.Linear(256, 256), nn.Linear(256, 256), LeakyReLU(SLOPE)

    def forward(self, x):
        return self.act(x + self.two(self.act(self.one(x))))


def test_branches_of_a_residual_network_share_what_they_add():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), LeakyReLU(SLOPE), *[Plain() for _ in range(16)])
    x = torch.randn(64, 256)
    gains = initialize(model, SLOPE, x).gains
    assert gains["5.one"] == pytest.approx(GAIN)
    assert gains["5.two"] == pytest.approx(GAIN / 4)
    assert float(model(x).detach().square().mean()) < 3.0  # and not 2**16
    # Without inputs nothing is known of the sums.
    assert initialize(model, SLOPE).gains["5.two"] == pytest.approx(GAIN)


def test_what_cannot_be_drawn_is_left_with_the_reason():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(weight_norm(nn.Linear(4, 4)), nn.ReLU(), shared, nn.ReLU(), shared, nn.LazyLinear(3))
    model.unused, model.table = nn.Linear(2, 2), nn.Embedding(3, 4)
    before = {name: each.clone() for name, each in model.state_dict().items() if "0." in name or "table" in name}
    model.forward = lambda x: nn.Sequential.forward(nn.Sequential(*list(model)[:5]), x)
    result = initialize(model, SLOPE, torch.randn(2, 4))
    assert list(result.gains) == ["2"]
    reasons = dict(result.left)
    assert reasons["0.bias"] == "its weight is computed of others"
    assert reasons["5.weight"] == "its shape is not known before the first call"
    assert reasons["unused.weight"] == "it is not called as a layer on these inputs, or computes its weight"
    assert reasons["table.weight"] == "not a linear layer or convolution"
    assert all(torch.equal(each, model.state_dict()[name]) for name, each in before.items())


@pytest.mark.parametrize(
    ("slope", "options", "error", "text"),
    [
        ("0.1", {}, TypeError, "negative_slope must be a number, not str: '0.1'"),
        (True, {}, TypeError, "negative_slope must be a number, not bool: True"),
        (math.inf, {}, ValueError, "negative_slope = inf is not finite; give the slope of the Leaky ReLUs"),
        (0.1, {"weights": "uniform"}, ValueError, "weights = 'uniform' is not known; give 'orthogonal' or 'normal'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_drawn(slope, options, error, text):
    layer = nn.Linear(3, 3)
    before = layer.weight.clone()
    with pytest.raises(error, match=text):
        initialize(layer, slope, **options)
    assert torch.equal(layer.weight, before)
