"""Calls that replace_relu leaves as they are, and the reasons it gives."""

import torch
import torch.nn.functional as F
from support.leaky_calls import SLOPE, Plain, leaky, rewritten
from torch import nn

from leakyrelu.torch import replace_relu, save_memory


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Plain()

    def forward(self, x):
        return F.relu(self.block(x)) if x.sum() > -1e9 else x


def test_what_cannot_be_followed_is_said_and_its_children_are_rewritten(x):
    model, _, report = rewritten(lambda: nn.Sequential(Untraceable(), Plain()))
    assert report.rewritten == (("0.block", "relu", 1), ("1", "relu", 1))
    said = "symbolically traced variables cannot be used as inputs to control flow"
    reason = f"torch.fx cannot trace its forward method, in which a call of a ReLU stays one: {said}"
    assert report.left == (("0", reason),)
    torch.testing.assert_close(model(x), leaky(torch.relu(leaky(x - 0.1)) - 0.1))


def test_reasons_to_leave(x):
    own = Plain()
    own.forward = lambda x: F.relu(x)
    graph = torch.fx.symbolic_trace(Plain())
    model = nn.ModuleDict({"own": own, "graph": graph})
    report = replace_relu(model, SLOPE)
    assert report.rewritten == ()
    stays = "its forward method calls relu: this stays, "
    assert set(report.left) == {
        ("own", stays + "the method is set on the module itself, not on its class"),
        ("graph", stays + "it is a graph of torch.fx; call replace_relu before it is traced"),
    }
    torch.testing.assert_close(model["graph"](x), torch.relu(x - 0.1))


def test_parametrized_modules_are_left(x):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(6))

        def forward(self, x):
            return F.relu(x * self.scale)

    model = nn.Sequential(Scaled(), Scaled())
    nn.utils.parametrize.register_parametrization(model[0], "scale", nn.Softplus())
    report = replace_relu(model, SLOPE)
    assert report.rewritten == (("1", "relu", 1),)
    reason = "its forward method calls relu: this stays, it is parametrized; call replace_relu before that"
    assert ("0", reason) in report.left
    nn.utils.parametrize.register_parametrization(model[1], "scale", nn.Softplus())
    torch.testing.assert_close(model[1](x), leaky(x * F.softplus(torch.ones(6))))
    nn.utils.parametrize.remove_parametrizations(model[1], "scale")
    torch.testing.assert_close(model[1](x), leaky(x * F.softplus(torch.ones(6))))


def test_calls_in_one_mode_and_inside_layers_of_pytorch(x):
    class Modes(nn.Module):
        def forward(self, x):
            return F.relu(x) if self.training else x.relu() + x.relu()

    class Inside(nn.TransformerEncoderLayer):
        def forward(self, src, src_mask=None, is_causal=False, src_key_padding_mask=None):
            return F.relu(src)

    encoder = nn.TransformerEncoder(Inside(6, 2), 2, enable_nested_tensor=False)
    model, _, report = rewritten(lambda: nn.Sequential(Modes(), encoder))
    assert report.rewritten == (("0", "relu", 2), ("1.layers.0", "relu", 1), ("1.layers.1", "relu", 1))
    torch.testing.assert_close(model(x), leaky(leaky(leaky(x))))
    torch.testing.assert_close(model.eval()(x), leaky(leaky(2 * leaky(x))))


def test_arguments_of_every_kind_can_be_followed_again(x):
    class Arguments(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.norm, self.act = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.LeakyReLU(0.1)

        def forward(self, x, mask=None, *args, scale=2.0, **options):
            return self.act(self.norm(self.line(x).relu() * scale))

    model, reference, report = rewritten(Arguments)
    assert report.rewritten == (("", "relu", 1),)
    expected = reference.act(reference.norm(leaky(reference.line(x)) * 3.0))
    torch.testing.assert_close(model(x, None, 1, scale=3.0, more=2), expected)
    again = replace_relu(model, 0.9)
    assert (again.rewritten, again.left) == ((), ())
    assert save_memory(model).joined == (("norm", "act"),)
    torch.testing.assert_close(model(x, None, 1, scale=3.0, more=2), expected)


def test_a_class_that_cannot_be_exchanged_is_left(x):
    class Sealed(type(nn.Module)):
        def __new__(meta, name, bases, namespace):
            if any(isinstance(base, Sealed) for base in bases):
                raise TypeError("Final is sealed")
            return super().__new__(meta, name, bases, namespace)

    class Final(nn.Module, metaclass=Sealed):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(6, 6)

        def forward(self, x):
            return F.relu(self.line(x))

    model, reference, report = rewritten(Final, correct_gain=True)
    words = "its forward method calls relu: this stays, Python cannot exchange its class (Final is sealed)"
    assert report.left == (("", words),)
    assert (report.rewritten, report.rescaled) == ((), ())
    assert torch.equal(model(x), torch.relu(reference.line(x)))
