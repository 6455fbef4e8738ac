"""replace_relu on calls of functions: the network is the one written by hand with `torch.nn.functional.leaky_relu`."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.leaky_calls import SLOPE, Block, Network, Own, Plain, check, leaky, rewritten
from torch import nn

from leakyrelu.torch import replace_relu


def test_every_call_is_leaky_forward_and_backward(x):
    model, reference, report = rewritten()
    calls = {(name, call): number for name, call, number in report.rewritten}
    block = {"relu": 6, "relu_": 2, "clamp(min=0)": 2, "clip(min=0)": 1}
    block |= {"clamp_min(min=0)": 1, "clamp_(min=0)": 1, "clamp_min_(min=0)": 1}
    expected = {("", "relu"): 1, **{(name, c): n for name in ("blocks.0", "blocks.3") for c, n in block.items()}}
    assert calls == expected
    assert report.swapped == ("blocks.1",)
    assert report.left == (("special", "Special is a subclass of nn.ReLU and may do more"),)
    check(model, reference, x)
    check(model.eval(), reference.eval(), x)
    assert not torch.equal(model(x), copy.deepcopy(model).train()(x))  # dropout and statistics follow the mode
    check(model.train(), reference.train(), x)


def test_the_class_is_the_same_to_the_eye_and_isinstance():
    model, reference, _ = rewritten()
    assert isinstance(model, Network)
    assert type(model) is not Network
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(type(model), name) == getattr(Network, name)
    assert type(model.blocks[0]) is type(model.blocks[3])
    assert repr(model.blocks[0]).splitlines()[:2] == ["Block(", f"  relu=leaky_relu({SLOPE})"]
    assert repr(model.special) == "Special()"
    assert list(model.state_dict()) == list(reference.state_dict())
    model.load_state_dict(reference.state_dict())
    reference.load_state_dict(model.state_dict())


def test_copies_and_pickles(x):
    model, reference, _ = rewritten()
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    copies = [
        *(
            copy.deepcopy(model),
            copy.deepcopy(copy.deepcopy(model)),
            copy.copy(model),
            torch.load(saved, weights_only=False),
        ),
        *(pickle.loads(pickle.dumps(model, protocol)) for protocol in (0, 2, 5)),
    ]
    for each in copies:
        assert type(each) is type(model)
        torch.testing.assert_close(each.eval()(x), reference.eval().by_hand(x))


def test_a_class_with_words_of_its_own_on_copying(x):
    model, reference, _ = rewritten(Own)
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert type(again) is type(model)
    assert again.made == reference.made == "from 6"
    check(again, reference, x)
    assert Own.subclasses == ()


def test_called_twice_there_is_no_relu_left(x):
    model, reference, _ = rewritten()
    kinds = [type(module) for module in model.modules()]
    again = replace_relu(model, 0.9)
    assert (again.rewritten, again.swapped, again.stored) == ((), (), ())
    assert [type(module) for module in model.modules()] == kinds
    check(model, reference, x)


@pytest.mark.parametrize("slope", [0.0, -0.5, 1.5, math.inf, math.nan])
def test_any_slope(x, slope):
    model, reference, _ = rewritten(Block, slope)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), reference.eval().by_hand(x, slope), equal_nan=True)


def test_parts_with_slopes_of_their_own(x):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Plain()

        def forward(self, x):
            return self.inner(F.relu(x)) - F.relu(-x)

    model = Pair()
    replace_relu(model.inner, 0.1)
    replace_relu(model, 0.5)
    torch.testing.assert_close(model(x), leaky(leaky(x, 0.5) - 0.1, 0.1) - leaky(-x, 0.5))


def test_in_place_stays_in_place():
    class InPlace(nn.Module):
        def forward(self, x):
            x.relu_()
            return x

    model, _, report = rewritten(InPlace)
    assert report.rewritten == (("", "relu_", 1),)
    x = torch.tensor([-2.0, 3.0])
    assert model(x) is x
    torch.testing.assert_close(x, torch.tensor([-2 * SLOPE, 3.0]))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        model(torch.ones(2, requires_grad=True))


def test_calls_of_operators(x):
    class Operators(nn.Module):
        def forward(self, x):
            return torch.ops.aten.relu(x) + torch.ops.aten.clamp.default(x, 0) + torch.ops.aten.relu.default(x)

    model, _, report = rewritten(Operators)
    assert sum(number for _, _, number in report.rewritten) == 3
    torch.testing.assert_close(model(x), 3 * leaky(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_double_backward_and_forward_mode():
    model, _, _ = rewritten(Plain)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda t: model(t) ** 2, x)
    jacobian = torch.func.vmap(torch.func.jacrev(model))(x.detach())
    torch.testing.assert_close(jacobian.diagonal(dim1=1, dim2=2), torch.where(x > 0.1, 1.0, SLOPE).double())


def test_an_error_ends_the_redirection(x):
    model, _, _ = rewritten()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        model(x[:, :2])
    assert torch.equal(F.relu(-x.abs()), torch.zeros_like(x))


def test_gain_is_corrected_in_front_of_calls():
    class Gains(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
            self.down, self.skip = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.act, self.head, self.out = nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = F.relu(self.norm(self.conv(x)))
            x = F.relu(self.down(x))
            y = self.skip(x)
            x = (y.relu() + y).mean((2, 3))
            x = self.act(self.head(x)).clamp(min=0)
            return self.out(x)

    model, reference, report = rewritten(Gains, 0.5, correct_gain=True)
    factor = 1 / math.sqrt(1.25)
    assert [name for name, _ in report.rescaled] == ["head", "down"]
    assert [each for _, each in report.rescaled] == pytest.approx([factor] * 2)
    assert report.not_rescaled == (
        ("relu()", "the output of skip also goes into another operation"),
        ("clamp()", "ReLU comes before it, no linear or convolution layer"),
    )
    for key, value in model.state_dict().items():
        scaled = key in ("head.weight", "down.weight")
        torch.testing.assert_close(value, reference.state_dict()[key] * (factor if scaled else 1))


@st.composite
def chains(draw):
    """Words for the steps of a random network, nested in modules of their own."""
    step = st.sampled_from(["relu", "relu_", "clamp", "F", "linear", "module", "bounded", "add"])
    return draw(st.lists(st.lists(step, min_size=1, max_size=5), min_size=1, max_size=4))


class Chain(nn.Module):
    def __init__(self, words, inner):
        super().__init__()
        self.words, self.inner, self.line, self.act = words, inner, nn.Linear(6, 6), nn.ReLU()

    def forward(self, x):
        x = x if self.inner is None else self.inner(x)
        for word in self.words:
            x = self.step(word, x)
        return x

    def step(self, word, x):
        if word == "relu":
            return x.relu()
        if word == "relu_":
            return x.clone().relu_()
        if word == "clamp":
            return torch.clamp(x, min=0)
        if word == "F":
            return F.relu(x)
        if word == "module":
            return self.act(x)
        if word == "linear":
            return self.line(x)
        return x.clamp(0, 1) if word == "bounded" else x + x.tanh()

    def by_hand(self, x):
        x = x if self.inner is None else self.inner.by_hand(x)
        for word in self.words:
            x = leaky(x) if word in ("relu", "relu_", "clamp", "F", "module") else self.step(word, x)
        return x


@settings(max_examples=25, deadline=None)
@given(chains())
def test_any_network(words):
    torch.manual_seed(0)
    model = None
    for each in words:
        model = Chain(each, model)
    reference = copy.deepcopy(model)
    report = replace_relu(model, SLOPE)
    calls = sum(number for _, _, number in report.rewritten)
    assert calls == sum(word in ("relu", "relu_", "clamp", "F") for each in words for word in each)
    x = torch.randn(3, 6, requires_grad=True)
    expected = reference.by_hand(x)
    torch.testing.assert_close(model(x), expected)
    one, two = (torch.autograd.grad((y * y).sum(), x)[0] for y in (model(x), expected))
    torch.testing.assert_close(one, two)
