"""The registered operators, by PyTorch's own checks of operators and against its function."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from leakyrelu.torch import leaky_relu

with_signs, with_signs_ = torch.ops.leakyrelu.with_signs, torch.ops.leakyrelu.with_signs_
from_signs = torch.ops.leakyrelu.from_signs


@pytest.fixture(autouse=True)
def _no_tensor_is_small(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)


LAYOUTS = {
    "dense": lambda: torch.randn(3, 5),
    "transposed": lambda: torch.randn(5, 3).t(),
    "channels last": lambda: torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "with gaps": lambda: torch.randn(4, 6)[:, ::2],
    "no dimension": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0, 3),
}


@pytest.fixture(params=["native", "plain"])
def kernels(request, monkeypatch):
    """Kernels of the CPU, and those of a device without native ones."""
    if request.param == "plain":
        monkeypatch.setattr("leakyrelu.torch.activations.kernels.NATIVE_DTYPES", {})


@pytest.mark.usefixtures("kernels")
# The check itself of PyTorch 2.14 reads it, of tensors of its own.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_opcheck(make, dtype):
    x = make().to(dtype)
    torch.library.opcheck(with_signs.default, (x, 0.1))
    y, signs = with_signs(x, 0.1)
    grad = torch.randn_like(y)
    torch.library.opcheck(from_signs.default, (grad, signs, 0.1, y.stride()))
    torch.library.opcheck(with_signs_.default, (y, 0.1))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("slope", [0.1, -0.5])
@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_values_of_the_operators(make, slope):
    x = make()
    y, signs = with_signs(x, slope)
    expected = F.leaky_relu(x, slope)
    assert torch.equal(y, expected)
    assert y.stride() == expected.stride()
    grad = torch.randn(x.shape)
    back = from_signs(grad, signs, slope, y.stride())
    assert torch.equal(back, torch.where(x > 0, grad, slope * grad))
    dense = torch.empty_like(y).copy_(x)
    assert torch.equal(with_signs_(dense, slope), signs)
    assert torch.equal(dense, expected)


@pytest.mark.usefixtures("kernels")
def test_negated_views_are_made_plain():
    x = torch.randn(11)
    negated = torch._neg_view(x)
    y, signs = with_signs(negated, 0.5)
    assert torch.equal(y, F.leaky_relu(-x, 0.5))
    assert torch.equal(signs, with_signs(-x, 0.5)[1])
    assert torch.equal(from_signs(negated, signs, 0.5, (1,)), torch.where(x < 0, -x, 0.5 * -x))


class Log(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append(function)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("slope", [0.1, -0.5])
@pytest.mark.parametrize("inplace", [False, True])
def test_derivatives_while_a_mode_sees_the_operators(slope, inplace):
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    with Log() as log:
        torch.autograd.gradcheck(lambda t: leaky_relu(t * 1, slope, inplace), x, check_forward_ad=True)
        torch.autograd.gradgradcheck(lambda t: leaky_relu(t * 1, slope, inplace), x)
    assert (with_signs_ if inplace else with_signs).default in log.calls
    assert from_signs.default in log.calls


@pytest.mark.parametrize("inplace", [False, True])
def test_one_bit_an_element_is_kept_while_a_mode_is_active(inplace):
    x = torch.randn(1000, requires_grad=True) * 1
    kept = []
    with Log(), torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        leaky_relu(x, -0.1, inplace)
    assert [(t.dtype, t.numel()) for t in kept] == [(torch.uint8, 125)]


@pytest.mark.parametrize("inplace", [False, True])
def test_selective_checkpoints_save_and_compute_again(inplace):
    saved = torch.utils.checkpoint.create_selective_checkpoint_contexts
    x = torch.randn(9, requires_grad=True)
    for policy in ([], [with_signs_.default if inplace else with_signs.default]):
        x.grad = None
        y = torch.utils.checkpoint.checkpoint(
            lambda t: leaky_relu(t * 2.0, 0.1, inplace),
            x,
            use_reentrant=False,
            context_fn=lambda policy=policy: saved(policy),
        )
        y.sum().backward()
        assert torch.equal(x.grad, 2 * torch.where(x > 0, 1.0, 0.1))


@pytest.mark.parametrize("inplace", [False, True])
def test_recorded_graphs_hold_operators_of_pytorch_alone(inplace):
    def gradient(x):
        return torch.autograd.grad(leaky_relu(x * 1, 0.1, inplace).sum(), x)

    graph = torch.fx.experimental.proxy_tensor.make_fx(gradient)(torch.randn(1000, requires_grad=True)).graph
    names = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert "aten.leaky_relu_.default" if inplace else "aten.leaky_relu.default" in names
    assert all(name.startswith("aten.") for name in names)


@pytest.mark.parametrize("inplace", [False, True])
def test_estimates_on_fake_tensors_see_the_bits(inplace):
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(1000, requires_grad=True)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            y = leaky_relu(x * 1.0, 0.1, inplace)
        assert [(t.dtype, t.numel()) for t in kept] == [(torch.uint8, 125)]
        y.sum().backward()
        assert x.grad.shape == (1000,)
