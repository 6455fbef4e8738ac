"""Calls of PyTorch as nodes: what each kind is read as, written down by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.slope.network import (
    Activation,
    Affine,
    Attention,
    AveragePool,
    BatchNorm,
    Concatenation,
    Dropout,
    Function,
    GroupNorm,
    Input,
    LayerNorm,
    Linear,
    MaxPool,
    Product,
    RMSNorm,
    Sum,
    Unknown,
)
from leakyrelu.torch.slope.padding import valid_taps
from leakyrelu.torch.slope.recorder import record
from leakyrelu.torch.slope.translation import translate


class Calling(nn.Module):
    """Calls a function, and then a ReLU."""

    def __init__(self, function, **tensors):
        super().__init__()
        self.function = function
        for name, each in tensors.items():
            self.register_parameter(name, nn.Parameter(each))

    def forward(self, *inputs):
        return torch.relu(self.function(self, *inputs))


def nodes_of(model, *inputs, exact_gain=False, training=True):
    return translate(record(model, inputs, training), exact_gain=exact_gain)


def the(kind, nodes):
    (found,) = [node for node in nodes if type(node) is kind]
    return found


IMAGE = torch.randn(4, 6, 8, 8)
TOKENS = torch.randn(4, 10, 6)
WEIGHT = torch.full((6,), 3.0)

READ = {
    "average pooling": (lambda m, x: F.avg_pool2d(x, 2), IMAGE, AveragePool, {"places": 4}),
    "average pooling of one axis": (lambda m, x: F.avg_pool1d(x.flatten(2), 4), IMAGE, AveragePool, {"places": 4}),
    "adaptive average pooling": (lambda m, x: F.adaptive_avg_pool2d(x, 2), IMAGE, AveragePool, {"places": 16}),
    "mean over places": (
        lambda m, x: F.conv2d(x, torch.ones(6, 6, 1, 1)).mean((2, 3)), IMAGE, AveragePool, {"places": 64}
    ),
    "max pooling": (lambda m, x: F.max_pool2d(x, 3, 2, 1), IMAGE, MaxPool, {"places": 9}),
    "largest over places": (
        lambda m, x: F.conv2d(x, torch.ones(6, 6, 1, 1)).amax((2, 3)), IMAGE, MaxPool, {"places": 64}
    ),
    "batch norm": (
        lambda m, x: F.batch_norm(x, None, None, training=True), IMAGE, BatchNorm, {"batch": 4, "places": 64}
    ),
    "instance norm": (lambda m, x: F.instance_norm(x), IMAGE, GroupNorm, {"channels": 1, "places": 64}),
    "group norm": (lambda m, x: F.group_norm(x, 2), IMAGE, GroupNorm, {"channels": 3, "places": 64}),
    "layer norm": (lambda m, x: F.layer_norm(x, (6,)), TOKENS, LayerNorm, {}),
    "layer norm of an image": (
        lambda m, x: F.layer_norm(x, (6, 8, 8)), IMAGE, GroupNorm, {"channels": 6, "places": 64}
    ),
    "rms norm": (lambda m, x: F.rms_norm(x, (6,)), TOKENS, RMSNorm, {}),
    "dropout": (lambda m, x: F.dropout(x, 0.25), TOKENS, Dropout, {"p": 0.25}),
    "number times": (lambda m, x: -0.5 * x, TOKENS, Affine, {"factor": -0.5}),
    "number added": (lambda m, x: 2 - x, TOKENS, Affine, {"factor": -1.0, "shift": 2.0}),
    "number under": (lambda m, x: x / 4, TOKENS, Affine, {"factor": 0.25}),
    "weight for each unit": (lambda m, x: x * m.w, TOKENS, Affine, {"factor": 3.0, "factor2": 9.0}),
    "sum": (lambda m, x: torch.add(x, x.flip(1), alpha=0.5), TOKENS, Sum, {"weights": (1.0, 0.5)}),
    "difference": (lambda m, x: x - x.flip(1), TOKENS, Sum, {"weights": (1.0, -1.0)}),
    "gate": (lambda m, x: x * x.sigmoid()[:, :1] * 2, TOKENS, Product, {"gates": (1,)}),
    "product": (lambda m, x: x * x.flip(1), TOKENS, Product, {"gates": ()}),
    "concatenation": (lambda m, x: torch.cat([x, x[..., :2]], -1), TOKENS, Concatenation, {"sizes": (240.0, 80.0)}),
    "function": (lambda m, x: F.silu(x), TOKENS, Function, {"name": "silu"}),
    "attention": (
        lambda m, x: F.scaled_dot_product_attention(x, x, x, scale=0.3), TOKENS, Attention,
        {"places": 10, "width": 6, "factor": 0.3},
    ),
    "attention by hand": (
        lambda m, x: (x @ x.mT * 0.5).softmax(-1) @ x, TOKENS, Attention, {"places": 10, "width": None}
    ),
    "einsum": (
        lambda m, x: torch.einsum("bnc,dc->bnd", x, m.matrix), TOKENS, Linear, {"gain2": pytest.approx(6 * 4.0)}
    ),
    "matmul": (lambda m, x: x @ m.matrix, TOKENS, Linear, {"gain2": pytest.approx(6 * 4.0), "bias2": 0.0}),
    "addmm": (
        lambda m, x: torch.addmm(m.w, x.flatten(0, 1), m.matrix), TOKENS, Linear,
        {"gain2": pytest.approx(6 * 4.0), "bias2": 9.0},
    ),
    "linear": (
        lambda m, x: F.linear(x, m.matrix, m.w), TOKENS, Linear, {"gain2": pytest.approx(6 * 4.0), "bias2": 9.0}
    ),
    "transposed convolution": (
        lambda m, x: F.conv_transpose2d(x, torch.full((6, 5, 2, 2), 0.5), stride=2), IMAGE, Linear,
        {"gain2": pytest.approx(6 * 0.25), "overlap": 0.25},
    ),
    "cumulative sum": (lambda m, x: x.cumsum(1), TOKENS, Unknown, {}),
    "quotient": (lambda m, x: x / (x + 9), TOKENS, Unknown, {}),
    "integers": (lambda m, x: x.argmax(-1).float(), TOKENS, Unknown, {}),
    "complex numbers": (lambda m, x: torch.view_as_real(torch.complex(x, x)), TOKENS, None, {}),
}  # fmt: skip


@pytest.mark.parametrize("what", READ)
def test_a_call_is_read_as_its_node(what):
    function, x, kind, attributes = READ[what]
    model = Calling(function, w=WEIGHT, matrix=torch.full((6, 6), 2.0))
    found = nodes_of(model, x)
    if kind in (Unknown, None):
        assert found.unknown
        assert all("in test_translation.py" in text for _, text in found.unknown)
        return
    assert found.unknown == []
    if what.endswith("places") or what == "gate":
        node = next(node for node in found.nodes if type(node) is kind)
    else:
        node = the(kind, found.nodes)
    assert {name: getattr(node, name) for name in attributes} == attributes
    assert type(found.nodes[-1]) is Activation


def test_with_exact_gain_weights_and_biases_that_are_parameters_do_not_count():
    model = Calling(lambda m, x: F.linear(x, m.matrix, m.w), w=WEIGHT, matrix=torch.full((6, 6), 2.0))
    node = the(Linear, nodes_of(model, TOKENS, exact_gain=True).nodes)
    assert (node.gain2, node.bias2) == (None, 0.0)
    # One that is computed of others, such as a standardized one, has the scale that it has.
    model = Calling(lambda m, x: F.linear(x, m.matrix / 2), matrix=torch.full((6, 6), 2.0))
    assert the(Linear, nodes_of(model, TOKENS, exact_gain=True).nodes).gain2 == pytest.approx(6.0)


def test_a_batch_norm_in_evaluation_scales_and_shifts_by_what_it_has():
    norm = nn.BatchNorm2d(6, eps=0.0).eval()
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    norm.weight.data.fill_(3.0)
    norm.bias.data.fill_(1.0)
    node = the(Affine, nodes_of(nn.Sequential(norm, nn.ReLU()), IMAGE, training=False).nodes)
    assert (node.factor, node.factor2, node.shift, node.shift2) == pytest.approx((1.5, 2.25, -2.0, 4.0))


def test_multi_head_attention_has_projections_of_its_own():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return torch.relu(self.attention(x, x, x, need_weights=False)[0])

    nodes = nodes_of(Attending(), torch.randn(4, 10, 8), exact_gain=True).nodes
    assert [type(node) for node in nodes].count(Linear) == 4
    node = the(Attention, nodes)
    assert (node.places, node.width, node.factor) == (10, 4, 0.5)


def test_tokens_of_an_embedding_are_unrelated_inputs():
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 8), nn.ReLU())
    found = nodes_of(model, torch.randint(50, (4, 10)))
    assert found.unknown == []
    assert sum(isinstance(node, Input) for node in found.nodes) == 1


def test_a_learned_position_differs_from_place_to_place_and_a_bias_does_not():
    for shape, across in (((10, 6), 0.0), ((1, 1, 6), 1.0), ((1, 10, 1), 0.0)):
        model = Calling(lambda m, x: F.linear(x, m.matrix) + m.p, p=torch.randn(shape), matrix=torch.ones(6, 6))
        assert the(Affine, nodes_of(model, TOKENS).nodes).across == across


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((7,), (3,), 1, 1, 1), ((8, 6), (3, 3), 2, 1, 1), ((9, 9), (5, 3), (2, 1), (2, 0), (1, 2)),
        ((4, 4), (7, 7), 1, 3, 1), ((6, 6), (3, 3), 1, "same", 2), ((6, 6), (3, 3), 1, "valid", 1),
        ((1, 1), (3, 3), 1, 1, 1), ((3, 4, 5), (3,) * 3, 1, 1, 1),
    ],
)  # fmt: skip
def test_taps_on_padding_are_counted(size, kernel, stride, padding, dilation):
    convolution = (F.conv1d, F.conv2d, F.conv3d)[len(size) - 1]
    # Which inputs each tap of each place of the result takes, by convolving with one tap at a time.
    taps = []
    for tap in itertools.product(*map(range, kernel)):
        weight = torch.zeros(1, 1, *kernel)
        weight[(0, 0, *tap)] = 1.0
        taps.append(convolution(torch.ones(1, 1, *size), weight, None, stride, padding, dilation)[0, 0])
    is_valid = torch.stack(taps).flatten(1).double()
    both = is_valid.T @ is_valid
    places = both.shape[0]
    own = both.diagonal().sum()
    expected = float((both.sum() - own) / ((places - 1) * own)) if places > 1 else 1.0
    found = valid_taps(size, kernel, tuple(taps[0].shape), stride, padding, dilation)
    assert found == pytest.approx((float(is_valid.mean()), expected))
