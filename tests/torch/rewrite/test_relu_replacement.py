"""replace_relu: what is swapped, what is left, and that the report says so."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import LeakyReLU, replace_relu

LAST_LINE = "A call such as torch.relu(x) in a forward method that torch.fx cannot trace stays a ReLU."


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x):
        return F.relu(self.act(self.linear(x)))


class Special(nn.ReLU):
    pass


def test_nested_modules_are_swapped_by_name():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Sequential(Block(), nn.ModuleDict({"a": nn.ReLU()})), nn.ModuleList([nn.ReLU()])
    )
    report = replace_relu(model, 0.2)
    assert report.swapped == ("1", "2.0.act", "2.1.a", "3.0")
    assert (report.negative_slope, report.hooks_lost) == (0.2, ())
    assert report.rewritten == (("2.0", "relu", 1),)
    assert (report.stored, report.left) == ((), ())
    for name in report.swapped:
        layer = model.get_submodule(name)
        assert type(layer) is LeakyReLU
        assert layer.negative_slope == 0.2
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())


def test_the_network_computes_leaky_relu_afterwards():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(5, 3)
    replace_relu(model, 0.3)
    expected = model[2](F.leaky_relu(model[0](x), 0.3))
    assert torch.equal(model(x), expected)
    assert list(model.state_dict()) == list(before)
    model.load_state_dict(before)


def test_inplace_and_training_mode_are_kept():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU(), nn.ReLU().eval())
    replace_relu(model)
    assert [layer.inplace for layer in model] == [True, False, False]
    assert [layer.training for layer in model] == [True, True, False]
    assert [layer.negative_slope for layer in model] == [0.01] * 3


def test_shared_modules_stay_shared():
    shared = nn.ReLU()
    block = Block()
    model = nn.ModuleDict({"a": nn.Sequential(shared, nn.Linear(2, 2), shared), "b": shared, "c": block, "d": block})
    report = replace_relu(model)
    assert report.swapped == ("a.0", "a.2", "b", "c.act", "d.act")
    assert model["a"][0] is model["a"][2] is model["b"]
    assert model["c"] is model["d"]
    assert type(model["a"][0]) is type(model["c"].act) is LeakyReLU
    assert model["c"].act is not model["b"]


def test_what_is_left_is_named_with_its_reason():
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    model = nn.ModuleDict(
        {
            "six": nn.ReLU6(),
            "mine": Special(),
            "rnn": nn.RNN(2, 3, nonlinearity="relu"),
            "cell": nn.RNNCell(2, 3, nonlinearity="relu"),
            "tanh": nn.RNN(2, 3),
            "block": layer,
            "leaky": nn.LeakyReLU(0.5),
        }
    )
    kinds = {name: type(module) for name, module in model.named_modules()}
    report = replace_relu(model)
    assert report.swapped == ()
    assert report.left == (
        ("six", "ReLU6 is bounded, not nn.ReLU"),
        ("mine", "Special is a subclass of nn.ReLU and may do more"),
        ("rnn", 'RNN computes its nonlinearity="relu" inside'),
        ("cell", 'RNNCell computes its nonlinearity="relu" inside'),
    )
    assert report.stored == ("block.activation",)
    assert {name: type(module) for name, module in model.named_modules()} == kinds


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_modules_are_left():
    model = nn.Sequential(torch.jit.script(nn.Sequential(nn.ReLU())), nn.ReLU())
    report = replace_relu(model)
    assert report.swapped == ("1",)
    assert report.left == (("0.0", "it is scripted; swap before torch.jit.script"),)


def test_transformer_layer_in_evaluation_uses_the_new_activation():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=nn.ReLU(), batch_first=True)
    assert replace_relu(layer, 0.5).swapped == ("activation",)
    x = torch.randn(2, 3, 8)
    training = layer(x)
    layer.eval()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), training)


def test_lost_hooks_are_reported():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    model[0].register_forward_hook(lambda *_: None)
    model[0].register_forward_pre_hook(lambda *_: None)
    model[0].register_full_backward_hook(lambda *_: None)
    report = replace_relu(model)
    assert report.hooks_lost == (("0", 3),)
    assert "  hooks lost 0: 3, register them on the new layer" in repr(report).splitlines()


def test_report_reads_as_text():
    model = nn.Sequential(nn.ReLU(), Block(), nn.ReLU6())
    assert repr(replace_relu(model, 0.1)).splitlines() == [
        "nn.ReLU -> LeakyReLU(negative_slope=0.1): 2 swapped, 1 call rewritten",
        "  swapped    0",
        "  swapped    1.act",
        "  rewritten  1: relu",
        "  left       2: ReLU6 is bounded, not nn.ReLU",
        LAST_LINE,
    ]


def test_report_counts_modules_and_not_their_names():
    model = nn.Module()
    model.act, twice = nn.ReLU(), nn.ReLU()
    model.first, model.second, model.third = twice, twice, nn.Sequential(twice, nn.ReLU(), model.act)
    report = replace_relu(model, 0.1)
    assert report.swapped == ("act", "first", "second", "third.0", "third.1", "third.2")
    assert report.layers == (("act", "third.2"), ("first", "second", "third.0"), ("third.1",))
    assert all(model.get_submodule(name) is model.first for name in report.layers[1])
    assert repr(report).splitlines() == [
        "nn.ReLU -> LeakyReLU(negative_slope=0.1): 3 swapped, 0 calls rewritten",
        "  swapped    act (and 1 other name)",
        "  swapped    first (and 2 other names)",
        "  swapped    third.1",
        LAST_LINE,
    ]


def test_twice_is_once():
    model = nn.Sequential(nn.ReLU())
    replace_relu(model, 0.1)
    layer = model[0]
    assert repr(replace_relu(model, 0.2)).splitlines() == [
        "nn.ReLU -> LeakyReLU(negative_slope=0.2): 0 swapped, 0 calls rewritten",
        LAST_LINE,
    ]
    assert model[0] is layer
    assert layer.negative_slope == 0.1


def test_one_bit_an_element_is_kept_afterwards(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)
    model = nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True))
    replace_relu(model)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(torch.randn(800, requires_grad=True))
    assert [t.untyped_storage().nbytes() for t in kept] == [100, 100]


def test_a_lone_relu_is_refused_with_the_remedy():
    with pytest.raises(
        ValueError, match=r"is itself an nn.ReLU, .*; use leakyrelu.torch.LeakyReLU\(0.2\) in its place"
    ):
        replace_relu(nn.ReLU(), 0.2)


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not list: "):
        replace_relu([nn.ReLU()])
    model = nn.Sequential(nn.ReLU())
    for bad in ("a", None, True, 1j):
        with pytest.raises(TypeError, match=f"negative_slope must be a number, not {type(bad).__name__}: "):
            replace_relu(model, bad)
    assert type(model[0]) is nn.ReLU
    assert replace_relu(model, math.nan).swapped == ("0",)


# Gain


def test_gain_is_corrected_where_a_weight_feeds_swapped_modules_alone():
    torch.manual_seed(0)
    tied = nn.Linear(4, 4)
    tied2 = nn.Linear(4, 4)
    tied2.weight = tied.weight
    model = nn.Sequential(
        *(nn.Linear(3, 4), nn.ReLU()),
        *(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()),
        *(tied, nn.ReLU(), tied2),
        *(nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 2)),
    )
    before = copy.deepcopy(model.state_dict())
    report = replace_relu(model, 0.5, correct_gain=True)
    factor = 1 / math.sqrt(1.25)
    assert [name for name, _ in report.rescaled] == ["0"]
    assert report.rescaled[0][1] == pytest.approx(factor)
    assert report.not_rescaled == (
        ("6", "the weight of 5 is shared with another layer"),
        ("9", "Dropout comes before it, no linear or convolution layer"),
    )
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key] * (factor if key == "0.weight" else 1))
    lines = repr(report).splitlines()
    assert "  weight of  0 multiplied by 0.894427" in lines
    assert "  gain of    6 not corrected: the weight of 5 is shared with another layer" in lines


def test_output_with_another_use_is_left():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act, self.lost = nn.Linear(3, 3), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            y = self.linear(x)
            return self.act(y) + y

    model = Skip()
    weight = model.linear.weight.clone()
    report = replace_relu(model, 0.5, correct_gain=True)
    assert report.not_rescaled == (
        ("act", "the output of linear also goes into another operation"),
        ("lost", "no call of it was seen"),
    )
    assert torch.equal(model.linear.weight, weight)


def test_signals_keep_their_size_with_the_corrected_gain():
    torch.manual_seed(0)
    depth, width = 20, 256
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width, bias=False), nn.ReLU())]
    for layer in layers[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    plain, corrected = nn.Sequential(*layers), copy.deepcopy(nn.Sequential(*layers))
    replace_relu(plain, 0.5)
    replace_relu(corrected, 0.5, correct_gain=True)
    x = torch.randn(64, width)
    size = [model(x).square().mean().sqrt().item() for model in (plain, corrected)]
    # Each of 20 layers would multiply the mean square by 1 + 0.25.
    assert size[0] / size[1] == pytest.approx(1.25 ** (depth / 2), rel=1e-3)
    assert 0.3 < size[1] < 1.5


def test_gain_of_a_slope_that_is_not_finite():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(
        ValueError, match=r"the gain can be corrected for a finite slope only, not inf; leave correct_gain"
    ):
        replace_relu(model, math.inf, correct_gain=True)
    assert type(model[1]) is nn.ReLU
