"""Rectifiers that are called as functions: all are seen, once, under a name that stays, with the right units."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.calling import Call, Feed
from torch import nn
from torch.nn import functional as F
from torch.overrides import BaseTorchFunctionMode
from torch.utils import checkpoint

from leakyrelu.torch import LeakyReLU, NormLeakyReLU, diagnose, leaky_relu, watch

aten = torch.ops.aten

CALLS = {
    # name: the call, the slope, the ceiling
    "relu": [
        (lambda x: F.relu(x), 0.0, np.inf),
        (lambda x: F.relu(x, inplace=True), 0.0, np.inf),
        (lambda x: torch.relu(x), 0.0, np.inf),
        (lambda x: torch.relu_(x), 0.0, np.inf),
        (lambda x: F.relu_(x), 0.0, np.inf),
        (lambda x: x.relu(), 0.0, np.inf),
        (lambda x: x.relu_(), 0.0, np.inf),
        (lambda x: F.relu(input=x), 0.0, np.inf),
        (lambda x: aten.relu(x), 0.0, np.inf),
        (lambda x: aten.relu_.default(x), 0.0, np.inf),
    ],
    "leaky_relu": [
        (lambda x: F.leaky_relu(x), 0.01, np.inf),
        (lambda x: F.leaky_relu(x, 0.2, True), 0.2, np.inf),
        (lambda x: F.leaky_relu_(x, negative_slope=0.3), 0.3, np.inf),
        (lambda x: leaky_relu(x, 0.4), 0.4, np.inf),
        (lambda x: leaky_relu(x, 0.4, inplace=True), 0.4, np.inf),
        (lambda x: aten.leaky_relu.default(x, 0.1), 0.1, np.inf),
    ],
    "prelu": [
        (lambda x, w: F.prelu(x, w), None, np.inf),
        (lambda x, w: torch.prelu(x, w), None, np.inf),
        (lambda x, w: x.prelu(w), None, np.inf),
        (lambda x, w: F.prelu(x, w[5:]), 0.5, np.inf),
    ],
    "rrelu": [
        (lambda x: F.rrelu(x), (1 / 8 + 1 / 3) / 2, np.inf),
        (lambda x: torch.rrelu_(x, 0.2, upper=0.4), 0.3, np.inf),
    ],
    "relu6": [(lambda x: F.relu6(x), 0.0, 6.0), (lambda x: F.relu6(x, inplace=True), 0.0, 6.0)],
    "hardtanh": [(lambda x: F.hardtanh(x, 0.0, 0.5), 0.0, 0.5), (lambda x: F.hardtanh_(x, 0, max_val=2), 0.0, 2.0)],
    "threshold": [
        (lambda x: F.threshold(x, 0.0, 0.0), 0.0, np.inf),
        (lambda x: F.threshold(x, 0.0, 0.0, True), 0.0, np.inf),
        (lambda x: torch.threshold(x, 0.0, 0.0), 0.0, np.inf),
    ],
    "clamp": [
        (lambda x: x.clamp(min=0), 0.0, np.inf),
        (lambda x: x.clamp_(0), 0.0, np.inf),
        (lambda x: torch.clamp(x, 0, 0.7), 0.0, 0.7),
        (lambda x: x.clamp_min(0), 0.0, np.inf),
        (lambda x: torch.clamp_min_(x, 0.0), 0.0, np.inf),
        (lambda x: x.clip(0.0), 0.0, np.inf),
        (lambda x: aten.clamp_min.default(x, 0), 0.0, np.inf),
    ],
}


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    ("kind", "function", "slope", "ceiling"), [(kind, *call) for kind, calls in CALLS.items() for call in calls]
)
def test_every_call_is_seen_once_with_all_its_numbers(kind, function, slope, ceiling, grad):
    torch.manual_seed(0)
    model = Call(function).double()
    x = torch.randn(50, 4, dtype=torch.float64)
    inside = model.linear(x).detach()
    with watch(model) as census, torch.set_grad_enabled(grad):
        y = model(x).detach().numpy()
    (layer,) = census.report().layers
    assert (layer.name, layer.kind, layer.ceiling) == (f"{kind}()", kind, ceiling)
    np.testing.assert_allclose(layer.negative_slope, model.weight.detach() if slope is None else slope, rtol=1e-15)
    np.testing.assert_array_equal(layer.counts.positive, (inside > 0).sum(0))
    np.testing.assert_array_equal(layer.counts.saturated, (inside >= ceiling).sum(0))
    np.testing.assert_allclose(layer.output_mean, y.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.output_std, y.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(min=1e-6),
        lambda x: x.clamp(-1, 1),
        lambda x: x.clamp(max=0),
        lambda x: x.clamp(torch.zeros(())),
        lambda x: F.hardtanh(x),
        lambda x: F.elu(x),
        lambda x: torch.tanh(x).abs(),
    ],
)
def test_what_does_not_rectify_is_left_alone(function):
    with pytest.raises(ValueError, match="no rectifier was called in Call"):
        diagnose(Call(function), torch.randn(3, 4))


def test_threshold_at_another_number_than_0():
    model = nn.Sequential(nn.Threshold(0.5, -3.0))
    x = torch.linspace(-2, 2, 40, dtype=torch.float64).reshape(20, 2)
    layer = diagnose(model, x).layers[0]
    np.testing.assert_array_equal(layer.counts.positive, (x > 0.5).sum(0))
    np.testing.assert_allclose(layer.output_mean, model(x).mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.output_std, model(x).std(0, correction=0), rtol=1e-12)
    np.testing.assert_allclose(layer.counts.relu_sum, (x - 0.5).clamp(min=0).sum(0), rtol=1e-12)


def test_random_slopes_in_training():
    model = nn.Sequential(nn.RReLU(0.1, 0.9)).train()
    x = torch.randn(200_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with watch(model) as census:
        y = model(x)
    (layer,) = census.report().layers
    assert (layer.kind, layer.negative_slope) == ("RReLU", 0.5)
    np.testing.assert_allclose(layer.output_mean, y.mean(0), atol=5e-3)
    np.testing.assert_allclose(layer.output_std, y.std(0), rtol=5e-3)
    assert diagnose(model, x).layers[0].output_std[0] < layer.output_std[0]  # in evaluation the slope is fixed


class Residual(nn.Module):
    """Two blocks in the style of torchvision, written with functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        h = F.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return F.relu(h + x)


def test_names_say_who_called():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(Residual(), Residual())
            self.head = nn.Linear(3, 2)
            self.act = nn.ReLU()

        def forward(self, x):
            return torch.relu(self.head(self.act(self.blocks(x)).mean((2, 3))))

    model = Net()
    batches = [torch.randn(4, 3, 5, 5) for _ in range(3)]
    reports = [diagnose(model, batches), diagnose(model, batches[:1])]
    for report in reports:
        assert [layer.name for layer in report.layers] == [
            *(
                "blocks.0.relu()",
                "blocks.0.relu(), call 2",
                "blocks.1.relu()",
                "blocks.1.relu(), call 2",
                "act",
                "relu()",
            )
        ]
    assert [layer.calls for layer in reports[0].layers] == [3] * 6
    assert [layer.units for layer in reports[0].layers] == [3, 3, 3, 3, 3, 2]
    assert reports[0]["blocks.0.relu(), call 2"].samples == 12 * 25


def test_ordinals_follow_the_source_and_not_the_data():
    class Branch(nn.Module):
        def forward(self, x):
            if x.shape[0] > 2:
                return F.relu(x)
            return F.relu(-x)

    long, short = torch.ones(3, 2), torch.ones(1, 2)
    for order in ([long, short], [short, long]):
        report = diagnose(Branch(), order)
        assert report["relu()"].always_on_units.tolist() == [0, 1]
        assert report["relu(), call 2"].silent_units.tolist() == [0, 1]


def test_one_call_behind_several_layers_is_several_places():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

        def forward(self, x):
            for layer in self.layers:
                x = F.relu(layer(x))
            return x

    report = diagnose(Loop(), torch.randn(5, 4))
    assert [layer.name for layer in report.layers] == ["relu()", "relu(), call 2"]
    assert [layer.place.after for layer in report.layers] == ["layers.0", "layers.1"]


def test_modules_and_their_functions_are_not_counted_twice():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.LeakyReLU(), LeakyReLU(0.1), nn.ReLU6(), nn.PReLU(), nn.RReLU()
    )
    report = diagnose(model, torch.randn(5, 3))
    assert [layer.name for layer in report.layers] == ["1", "2", "3", "4", "5", "6"]
    assert {layer.calls for layer in report.layers} == {1}


@pytest.mark.parametrize(
    ("function", "shape", "axis"),
    [
        (lambda x: F.linear(x, torch.randn(5, 3)), (2, 7, 3), 2),
        (lambda x: x @ torch.randn(3, 5), (2, 7, 3), 2),
        (lambda x: torch.bmm(x, x.mT), (2, 7, 3), 2),
        (lambda x: F.layer_norm(x, (3,)), (2, 7, 3), 2),
        (lambda x: F.conv1d(x, torch.randn(5, 7, 1)), (2, 7, 3), 1),
        (lambda x: F.conv1d(x, torch.randn(5, 7, 1)), (7, 3), 0),
        (lambda x: F.conv_transpose2d(x, torch.randn(3, 5, 2, 2)), (2, 3, 4, 4), 1),
        (lambda x: F.batch_norm(x, None, None, training=True), (4, 7, 3), 1),
        (lambda x: F.linear(x, torch.randn(5, 3)) + 1, (2, 7, 3), 2),
    ],
)
def test_the_unit_axis_comes_from_the_function_in_front(function, shape, axis):
    inside = []

    def kept(x):
        inside.append(function(x))
        return inside[0]

    (layer,) = diagnose(Feed(kept), torch.randn(shape)).layers
    values = np.moveaxis(inside[0].double().numpy(), axis, 0).reshape(inside[0].shape[axis], -1)
    assert (layer.units, layer.samples) == values.shape
    np.testing.assert_array_equal(layer.counts.positive, (values > 0).sum(axis=1))


def test_unit_axis_of_a_call():
    model = nn.Sequential(Feed(lambda x: x + 1))
    x = torch.randn(2, 3, 4)
    assert diagnose(model, x).layers[0].units == 3
    assert diagnose(model, x, unit_axis={"0.relu()": -1}).layers[0].units == 4
    with pytest.raises(ValueError, match=r"unit_axis names '1\.relu\(\)', .* as in '0\.relu\(\)'"):
        watch(model, unit_axis={"1.relu()": 1})


def test_calls_outside_of_the_model_are_not_counted():
    model = Feed(lambda x: x)
    with watch(model) as census:
        F.relu(torch.ones(9, 2))
        model(torch.ones(3, 2))
        Feed(lambda x: x)(torch.ones(7, 2))
    assert [layer.samples for layer in census.report().layers] == [3]
    assert torch._C._len_torch_function_stack() == 0


def test_our_own_function_keeps_its_bits_while_it_is_watched():
    x = torch.randn(1 << 19, requires_grad=True)  # shorter ones are left to PyTorch

    class Net(nn.Module):
        def forward(self, x):
            return leaky_relu(x, 0.1)

    kept = []
    with watch(Net()) as census, torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        census.model(x)
    assert [t.dtype for t in kept] == [torch.uint8]
    assert census.report()["leaky_relu()"].negative_slope == 0.1


@pytest.mark.parametrize("training", [False, True])
def test_a_fused_pair_is_taken_apart_while_it_is_watched(training):
    norm = nn.BatchNorm2d(4).train(training)
    pair = nn.Sequential(NormLeakyReLU(copy.deepcopy(norm), 0.1)).train(training)
    x = torch.randn(5, 4, 3, 3, requires_grad=True)
    with watch(pair) as census:
        y = pair(x)
    (layer,) = census.report().layers
    inside = norm(x)
    assert (layer.name, layer.negative_slope, layer.units) == ("0.leaky_relu()", 0.1, 4)
    np.testing.assert_array_equal(layer.counts.positive, (inside > 0).sum((0, 2, 3)))
    torch.testing.assert_close(y, F.leaky_relu(inside, 0.1))


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_a_checkpoint_computes_again_is_not_counted_again(reentrant):
    block = Feed(nn.Linear(3, 3))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block

        def forward(self, x):
            return checkpoint.checkpoint(self.block, x, use_reentrant=reentrant)

    with watch(Net()) as census:
        census.model(torch.randn(5, 3, requires_grad=True)).sum().backward()
    (layer,) = census.report().layers
    assert (layer.calls, layer.samples) == (1, 5)


def test_transforms_are_refused():
    model = Feed(lambda x: x)
    with watch(model), pytest.raises(RuntimeError, match=r"'relu\(\)' is called under a transform of torch\.func"):
        torch.func.vmap(model)(torch.ones(2, 3))


def test_wrappers_and_threads():
    import threading

    model = nn.DataParallel(nn.Sequential(nn.Linear(3, 4), Feed(lambda x: x), nn.ReLU()))
    with watch(model) as census:
        model(torch.randn(5, 3))
        workers = [threading.Thread(target=model, args=(torch.randn(50, 3),)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    report = census.report()
    assert [(layer.name, layer.samples) for layer in report.layers] == [("module.1.relu()", 205), ("module.2", 205)]


def test_autocast_and_half_precision():
    model = nn.Sequential(nn.Linear(3, 5), Feed(lambda x: x))
    x = torch.randn(64, 3)
    with watch(model) as census, torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model[0](x)
        model(x)
    np.testing.assert_array_equal(census.report().layers[0].counts.positive, (inside > 0).sum(0))
    half = model.half()
    layer = diagnose(half, x.half()).layers[0]
    np.testing.assert_array_equal(layer.counts.positive, (half[0](x.half()) > 0).sum(0))


def test_transformer_layers_show_what_they_fuse():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    report = diagnose(model, torch.randn(3, 5, 8))
    assert [(layer.name, layer.units, layer.samples) for layer in report.layers] == [
        ("layers.0.relu()", 16, 15),
        ("layers.1.relu()", 16, 15),
    ]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_only_padding_differs_in_a_transformer_that_leaves_its_fast_path():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x, padding = torch.randn(3, 5, 8), torch.arange(5) >= torch.tensor([[5], [3], [1]])
    with torch.no_grad():
        fast = model(x, src_key_padding_mask=padding)
        with BaseTorchFunctionMode():
            slow = model(x, src_key_padding_mask=padding)
        with watch(model) as census:
            watched = model(x, src_key_padding_mask=padding)
    assert torch.equal(watched, slow)
    torch.testing.assert_close(watched[~padding], fast[~padding])
    assert not fast[padding].any()
    assert watched[padding].all()
    assert [layer.samples for layer in census.report().layers] == [15, 15]


def test_exported_programs():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.LeakyReLU(0.2))
    x = torch.randn(6, 3)
    exported = torch.export.export(model, (x,)).module()
    with watch(exported) as census:
        exported(x)
    report, plain = census.report(), diagnose(model, x)
    assert [(layer.name, layer.units) for layer in report.layers] == [("relu()", 4), ("leaky_relu()", 5)]
    for one, other in zip(report.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(one.counts.positive, other.counts.positive)
        assert one.negative_slope == other.negative_slope


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_models_are_refused():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    for model in (scripted, nn.Sequential(scripted)):
        with pytest.raises(
            ValueError, match=r"the model is scripted \(RecursiveScriptModule\), which hides what it calls"
        ):
            watch(model)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "gaps", "expanded", "negative"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_memory_layout(layout, dtype):
    x = torch.randn(4, 6, 5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.permute(3, 1, 2, 0)
    elif layout == "gaps":
        x = x[:, ::2, 1:, ::3]
    elif layout == "expanded":
        x = x[:, :, :1].expand(-1, -1, 3, -1)
    elif layout == "negative":
        x = torch.complex(x.float(), x.float()).conj().imag.to(torch.float32)
        assert x.is_neg()
    (layer,) = diagnose(nn.ReLU(), x).layers
    values = x.double().numpy() if layout != "negative" else x.resolve_neg().double().numpy()
    np.testing.assert_array_equal(layer.counts.positive, (values > 0).sum((0, 2, 3)))
    np.testing.assert_allclose(layer.output_mean, np.maximum(values, 0).mean((0, 2, 3)), rtol=1e-12)


def test_the_batch_before_says_nothing_of_the_axis():
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 6))
    x = torch.randn(5, 3, 4)  # nothing feeds the activation: the units are on axis 1
    with torch.no_grad(), watch(model) as census:
        model(x)
        model(x)
    assert [(layer.units, layer.samples) for layer in census.report().layers] == [(3, 40)]
