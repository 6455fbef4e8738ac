"""The layers against torch.nn.LeakyReLU, and the centered one against numerical integration."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.fixture(autouse=True)
def _no_tensor_is_small(monkeypatch):
    """Small tensors take the execution path of large ones, so that a test of a few elements tests it."""
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)


def moments(slope: float) -> tuple[float, float]:
    """Mean and standard deviation of the function under N(0, 1), by the trapezoidal rule."""
    x = np.linspace(-12, 12, 2_000_001)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    y = np.where(x > 0, x, slope * x)
    mean = np.trapezoid(y * density, x)
    return mean, math.sqrt(np.trapezoid((y - mean) ** 2 * density, x))


# LeakyReLU


@pytest.mark.parametrize(
    "arguments", [(), (0.2,), (0.2, True), (0.2, False), (-1,), ("a",), (None,), (torch.tensor([0.1, 0.2]),)]
)
def test_repr_is_that_of_pytorch(arguments):
    assert repr(LeakyReLU(*arguments)) == repr(nn.LeakyReLU(*arguments))


def test_is_an_instance_of_the_layer_of_pytorch():
    layer = LeakyReLU()
    assert isinstance(layer, nn.LeakyReLU)
    assert (layer.negative_slope, layer.inplace) == (0.01, False)
    assert layer.state_dict() == nn.LeakyReLU().state_dict() == {}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_output_and_gradient_are_those_of_pytorch(dtype, inplace):
    x = torch.randn(4, 5, dtype=dtype, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    y, expected = LeakyReLU(0.2, inplace)(x * 1), nn.LeakyReLU(0.2, inplace)(twin * 1)
    y.backward(x.detach().cos())
    expected.backward(x.detach().cos())
    assert torch.equal(y, expected)
    assert torch.equal(x.grad, twin.grad)


def test_misuse_raises_what_pytorch_raises():
    for arguments, make in (
        (("a",), lambda: torch.ones(2)),
        ((0.1,), lambda: torch.arange(3)),
        ((0.1,), lambda: [1.0]),
        ((0.1, True), lambda: torch.ones(2, requires_grad=True)),
    ):
        with pytest.raises((TypeError, NotImplementedError, RuntimeError)) as theirs:
            nn.LeakyReLU(*arguments)(make())
        with pytest.raises(theirs.type) as ours:
            LeakyReLU(*arguments)(make())
        assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("bad", [{}, {"slope": 0.1}])
def test_constructor_refuses_what_pytorch_refuses(bad):
    if not bad:
        arguments, keywords = (0.1, False, 3), {}
    else:
        arguments, keywords = (), bad
    with pytest.raises(TypeError) as theirs:
        nn.LeakyReLU(*arguments, **keywords)
    with pytest.raises(TypeError) as ours:
        LeakyReLU(*arguments, **keywords)
    assert str(ours.value) == str(theirs.value)


def test_a_network_trains_to_the_same_weights():
    def train(layer):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), layer(0.1), nn.Flatten(), nn.Linear(144, 3), layer(0.3, True))
        x, target = torch.randn(8, 1, 8, 8), torch.arange(8) % 3
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(10):
            optimizer.zero_grad()
            F.cross_entropy(model(x), target).backward()
            optimizer.step()
        return model

    ours, theirs = train(LeakyReLU), train(nn.LeakyReLU)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())


# Both layers: copies, files, compilation, memory


@pytest.mark.parametrize("layer", [LeakyReLU(0.3), LeakyReLU(0.3, inplace=True), CenteredLeakyReLU(0.3)], ids=repr)
@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_copies_compute_the_same(layer, way):
    model = nn.Sequential(nn.Linear(3, 4), layer)
    if way == "copy":
        twin = copy.deepcopy(model)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    x = torch.randn(5, 3)
    assert repr(twin) == repr(model)
    assert torch.equal(twin(x), model(x))
    assert list(twin.state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("layer", [LeakyReLU(0.3), LeakyReLU(-0.3, inplace=True), CenteredLeakyReLU(0.3)], ids=repr)
def test_compiles_without_a_graph_break(layer):
    model = nn.Sequential(nn.Linear(3, 4), layer)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 3)
    torch.testing.assert_close(compiled(x), model(x))
    compiled(x).sum().backward()
    found = model[0].weight.grad.clone()
    model.zero_grad()
    model(x).sum().backward()
    torch.testing.assert_close(found, model[0].weight.grad)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_and_traced():
    x = torch.randn(9)
    expected = F.leaky_relu(x, 0.3)
    assert torch.equal(torch.jit.script(LeakyReLU(0.3))(x), expected)
    centered = CenteredLeakyReLU(0.3)
    assert torch.equal(torch.jit.script(centered)(x), centered(x))
    traced = torch.jit.trace(LeakyReLU(0.3), (torch.randn(2, requires_grad=True),))
    assert torch.equal(traced(x), expected)


@pytest.mark.parametrize("layer", [LeakyReLU(0.3), LeakyReLU(0.3, inplace=True), CenteredLeakyReLU(0.3)], ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bit_an_element_is_kept(layer, dtype):
    kept = []
    x = torch.randn(1001, dtype=dtype, requires_grad=True) * 1
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    assert [(t.dtype, t.untyped_storage().nbytes()) for t in kept] == [(torch.uint8, 126)]


# CenteredLeakyReLU


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5, 0.796, 1.0, 1.5, -0.4, 3])
def test_centered_is_the_formula(slope):
    mean, std = moments(slope)
    x = torch.tensor([-3.0, -0.5, -0.0, 0.0, 1e-3, 2.0, math.inf, math.nan], dtype=torch.float64)
    expected = (F.leaky_relu(x, slope) - mean) / std
    torch.testing.assert_close(CenteredLeakyReLU(slope)(x), expected, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("slope", [0.0, 0.7, -0.4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_centered_gradient_and_dtype(slope, dtype):
    std = moments(slope)[1]
    x = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=dtype, requires_grad=True)
    y = CenteredLeakyReLU(slope)(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    expected = torch.tensor([slope / std] * 3 + [1 / std], dtype=torch.float64)
    torch.testing.assert_close(x.grad.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-8)


def test_centered_leaves_its_input_alone():
    x = torch.tensor([-1.0, 2.0])
    CenteredLeakyReLU(0.5)(x)
    assert x.tolist() == [-1.0, 2.0]


# PyTorch's first forward-mode derivative loads a module of its own that it has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_centered_derivatives_of_every_mode():
    layer = CenteredLeakyReLU(0.4)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(layer, x, check_batched_grad=True)
    torch.autograd.gradgradcheck(layer, x, check_batched_grad=True)
    jacobian = torch.func.vmap(torch.func.jacfwd(layer))(x.detach())
    std = moments(0.4)[1]
    torch.testing.assert_close(jacobian, torch.diag_embed(torch.where(x > 0, 1.0 / std, 0.4 / std).detach().double()))


def test_centered_repr_and_a_slope_set_later():
    layer = CenteredLeakyReLU(0.25)
    assert repr(layer) == "CenteredLeakyReLU(negative_slope=0.25)"
    layer.negative_slope = 0.5
    x = torch.randn(9)
    assert layer.negative_slope == 0.5
    assert torch.equal(layer(x), CenteredLeakyReLU(0.5)(x))


@pytest.mark.parametrize("bad", ["a", None, 1j, True, [0.1]])
def test_centered_slope_must_be_a_number(bad):
    with pytest.raises(TypeError, match=r"negative_slope must be a number, not \w+: .*centered\(depth\)"):
        CenteredLeakyReLU(bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_centered_slope_must_be_finite(bad):
    with pytest.raises(ValueError, match=rf"negative_slope must be finite, not {bad}: .*centered\(depth\)"):
        CenteredLeakyReLU(bad)


def test_centered_has_no_default_slope_and_says_where_to_get_one():
    with pytest.raises(TypeError, match="negative_slope"):
        CenteredLeakyReLU()
    assert "leakyrelu.slope.centered(depth)" in CenteredLeakyReLU.__doc__
