"""choose_slope: the slope of known networks, the reasons, what it names, and what it leaves alone."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from leakyrelu.slope import correlation, tailored
from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU, NoRectifierError, choose_slope, initialize, replace_relu


def plain(depth, width=64, act=nn.ReLU, **options):
    return nn.Sequential(*[layer for _ in range(depth) for layer in (nn.Linear(width, width, **options), act())])


class Bottleneck(nn.Module):
    """A block of a pre-activation ResNet, with a weighted shortcut."""

    def __init__(self, width, weight, projected):
        super().__init__()
        self.weight, self.branch_weight = weight, (1 - weight**2) ** 0.5
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in range(3))
        self.shortcut = nn.Conv2d(width, width, 1, bias=False) if projected else None
        self.act = nn.ReLU()

    def forward(self, x):
        h = first = self.act(x)
        for number, conv in enumerate(self.convs):
            h = conv(h if number == 0 else self.act(h))
        kept = x if self.shortcut is None else self.shortcut(first)
        return self.weight * kept + self.branch_weight * h


def preactivation(blocks, weight):
    stages = [Bottleneck(8, weight, number == 0) for count in blocks for number in range(count)]
    return nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), *stages, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 10))


@pytest.mark.parametrize("depth", [13, 20, 50, 100])
@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, LeakyReLU])
def test_a_plain_network_has_the_slope_of_the_formula(depth, act):
    choice = choose_slope(plain(depth, act=act), torch.randn(4, 64))
    assert choice.slope == pytest.approx(tailored(depth), abs=1e-6)
    assert [layer.usual for layer in choice.layers] == pytest.approx(
        [correlation(0.01, 0.0, layer) for layer in range(1, depth + 1)], abs=1e-9
    )
    assert [layer.relu for layer in choice.layers][-1] == pytest.approx(correlation(0.0, 0.0, depth), abs=1e-9)
    assert choice.layers[-1].chosen == pytest.approx(0.9, abs=1e-9)
    assert (choice.worst.start, choice.worst.end) == ("input", str(2 * depth - 1))


# DeepMind's dks, and the strict maximum over all parts, which its function of the architecture leaves out at .8.
@pytest.mark.parametrize(
    ("blocks", "weight", "slope", "within"),
    [
        ((3, 4, 6, 3), 0.0, 0.425907, 1e-6),
        ((3, 4, 6, 3), 0.5, 0.357252, 1e-6),
        ((3, 4, 23, 3), 0.0, 0.570440, 1e-6),
        ((3, 4, 6, 3), 0.8, 0.1735, 1e-4),
    ],
)
def test_preactivation_resnets_have_the_slopes_of_dks(blocks, weight, slope, within):
    choice = choose_slope(preactivation(blocks, weight), torch.randn(2, 3, 2, 2))
    assert choice.slope == pytest.approx(slope, abs=within)
    assert choice.worst.similarity == pytest.approx(0.9, abs=1e-9)
    assert choice.assumed == ()
    assert choice.unknown == ()


def test_the_reason_says_why_in_one_sentence():
    model = plain(30, bias=False)
    initialize(model, 0.01, torch.randn(4, 64))
    assert choose_slope(model, torch.randn(4, 64)).reason == (
        "0.303: with it no part of the network makes unrelated inputs more alike than 0.9 (0.971 at 0.01)"
    )
    assert choose_slope(plain(3), torch.randn(4, 64)).reason == (
        f"keep 0.01: even under ReLU similarity stays at {correlation(0.0, 0.0, 3):.2f}, "
        "because so few layers bring them no closer"
    )
    normalized = nn.Sequential(
        nn.Linear(8, 8), *[layer for _ in range(30) for layer in (nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))]
    )
    reason = choose_slope(normalized, torch.randn(64, 8)).reason
    assert reason.startswith("keep 0.01: even under ReLU similarity stays at 0.3")
    assert reason.endswith(", because normalization keeps inputs apart")


def test_what_makes_inputs_alike_at_any_slope_is_named():
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))]
    choice = choose_slope(nn.Sequential(*layers, nn.Conv2d(64, 64, 1), nn.ReLU()), torch.randn(2, 64, 16, 16))
    assert choice.slope is None
    assert choice.reason.startswith("no slope: even a straight line brings unrelated inputs to 0.9")
    assert choice.reason.endswith(" between the input and 13, by max pooling")


def test_weights_that_bring_every_pair_together_are_named():
    choice = choose_slope(plain(40), torch.randn(4, 64))  # PyTorch's own initialization, with its biases
    assert choice.reason.startswith(
        "the weights, as they are, bring every pair to 1.000 at any slope: initialize them with the gain first "
        f"(initialize(model, {choice.slope:.3f}, *inputs)); then {choice.slope:.3f}: with it no part"
    )
    assert choice.present == pytest.approx(1.0, abs=1e-3)
    model = plain(40)
    replace_relu(model, choice.slope)
    initialize(model, choice.slope, torch.randn(4, 64))
    again = choose_slope(model, torch.randn(4, 64))
    assert again.slope == choice.slope
    assert again.present == pytest.approx(0.9, abs=1e-6)
    assert again.reason.startswith(f"{choice.slope:.3f}: with it")
    assert again.remarks == ()


def test_narrow_layers_are_named_with_what_the_formula_may_be_off_by():
    choice = choose_slope(plain(20, width=16), torch.randn(4, 16))
    assert "in layers of 16 units the similarity may be off by about 0.25" in choice.remarks[-1]
    assert choice.layers[0].units == 16
    assert not any("approximate" in text for text in choose_slope(plain(20, width=64), torch.randn(4, 64)).remarks)


class Odd(nn.Module):
    """Sums whose sides are not independent, a Fourier transform, a gate."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.squeeze, self.excite = nn.Linear(64, 8), nn.Linear(8, 64)

    def forward(self, x):
        x = self.first(x)
        x = self.second(x + torch.relu(x))
        x = torch.fft.rfft(x, n=126).real
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x))))
        return torch.relu(x)


def test_what_is_assumed_and_what_cannot_be_read_is_named_with_its_place():
    choice = choose_slope(Odd(), torch.randn(4, 64))
    dependent, gate = choice.assumed
    assert dependent.startswith("add in test_choosing.py:")
    assert dependent.endswith(": its sides share weights or inputs")
    assert gate.startswith("product in test_choosing.py:")
    (transform, *_) = choice.unknown
    assert transform.startswith("fft_rfft in test_choosing.py:")
    assert "not made of real floating-point numbers" in transform
    # Within the gate inputs are alike, which is no matter of the slope.
    assert [layer.name for layer in choice.layers] == ["relu()", "relu(), call 3"]
    text = repr(choice)
    assert f"  assumed  {dependent}" in text
    assert f"  not read  {transform}" in text


def test_activations_whose_slope_is_their_own_keep_it():
    with pytest.raises(NoRectifierError, match=r"Sequential called no ReLU or Leaky ReLU on these inputs"):
        choose_slope(nn.Sequential(nn.Linear(4, 4), nn.PReLU(), nn.GELU()), torch.randn(2, 4))
    model = nn.Sequential(
        *[layer for _ in range(40) for layer in (nn.Linear(64, 64), CenteredLeakyReLU(0.7))], nn.ReLU()
    )
    choice = choose_slope(model, torch.randn(4, 64))
    assert len(choice.layers) == 41
    assert choice.slope is None  # outputs of mean 0 keep unrelated inputs unrelated
    # As behind the first of them.
    assert choice.layers[-2].chosen == pytest.approx(correlation(0.7, 0.0), abs=1e-9)


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.act = nn.BatchNorm1d(64), nn.Dropout(0.5), nn.ReLU()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        if x.shape[-1] != 64:
            raise RuntimeError("of another width")
        return self.act(self.drop(self.norm(x)))


def everything(model):
    tensors = {name: each.clone() for name, each in model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return tensors, [m.training for m in model.modules()], hooks, [each.grad for each in model.parameters()]


@pytest.mark.parametrize("training", [None, True, False])
@pytest.mark.parametrize("width", [64, 63])
def test_model_and_generators_are_left_as_they_were(training, width):
    model = nn.Sequential(nn.Linear(width, width), Remembering(), Remembering().eval())
    before = everything(model)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    if width == 64:
        choose_slope(model, torch.randn(8, 64, generator=torch.Generator().manual_seed(0)), training=training)
    else:
        with pytest.raises(RuntimeError, match="of another width"):
            choose_slope(model, torch.ones(8, 63), training=training)
    after = everything(model)
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:] == after[1:]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_training_says_which_statistics_a_batch_norm_takes():
    layers = [layer for _ in range(30) for layer in (nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU())]
    model = nn.Sequential(*layers)
    assert choose_slope(model, torch.randn(64, 64)).slope is None
    # In evaluation a new batch norm is the identity.
    assert choose_slope(model, torch.randn(64, 64), training=False).slope == pytest.approx(tailored(30), abs=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0, -1, float("nan"), "0.9"])
def test_an_eta_that_is_no_similarity_is_refused(eta):
    with pytest.raises(ValueError, match=r"no similarity to aim at; it must lie above 0 and below 1, and 0\.9 is"):
        choose_slope(plain(3), torch.randn(2, 64), eta=eta)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, not function"):
        choose_slope(plain, torch.randn(2, 64))


def test_the_answer_as_json_and_in_a_notebook(tmp_path):
    choice = choose_slope(plain(20), torch.randn(4, 64))
    path = tmp_path / "answer.json"
    found = json.loads(choice.to_json(path))
    assert json.loads(path.read_text()) == found
    assert found["slope"] == choice.slope
    assert found["reason"] == choice.reason
    assert found["layers"][3] == {
        "name": "7",
        "chosen": choice.layers[3].chosen,
        "usual": choice.layers[3].usual,
        "relu": choice.layers[3].relu,
        "units": 64,
    }
    assert found["worst"] == {"start": "input", "end": "39", "similarity": choice.worst.similarity}
    html = choice._repr_html_()
    assert f"<p>{choice.reason}</p>" in html
    assert html.count("<tr>") == 21
