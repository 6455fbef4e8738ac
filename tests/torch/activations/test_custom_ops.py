"""The registered operators, by PyTorch's own checks of operators and against its function."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import leakyrelu.torch.activations.custom_ops  # noqa: F401 - registers
from leakyrelu.torch import leaky_relu

with_signs, from_signs = torch.ops.leakyrelu.with_signs, torch.ops.leakyrelu.from_signs


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


# The check itself of PyTorch 2.14 reads it, of tensors of its own.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_opcheck(make, dtype):
    x = make().to(dtype).requires_grad_()
    torch.library.opcheck(with_signs.default, (x, 0.1))
    y, signs = with_signs(x, 0.1)
    grad = torch.randn_like(y).requires_grad_()
    torch.library.opcheck(from_signs.default, (grad, signs, 0.1, y.stride()))


@pytest.mark.parametrize("slope", [0.1, -0.5])
def test_values_and_derivatives_of_the_operator(slope):
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.equal(with_signs(x, slope)[0], F.leaky_relu(x, slope))
    torch.autograd.gradcheck(lambda t: with_signs(t, slope)[0], x)
    torch.autograd.gradgradcheck(lambda t: with_signs(t, slope)[0], x)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap_of_the_operator(axis):
    x = torch.randn(3, 4, 5)
    y, signs = torch.vmap(lambda t: with_signs(t, 0.1), axis)(x)
    rows = x.movedim(axis, 0)
    assert torch.equal(y, F.leaky_relu(rows, 0.1))
    grad = torch.randn(y.shape)
    strides = torch.empty(y.shape[1:]).stride()
    back = torch.vmap(lambda g, s: from_signs(g, s, 0.1, strides))(grad, signs)
    assert torch.equal(back, torch.where(rows > 0, grad, 0.1 * grad))
    one = torch.vmap(lambda g: from_signs(g, signs[0], 0.1, strides))(grad)
    assert torch.equal(one, torch.where(rows[0] > 0, grad, 0.1 * grad))


def test_compiled_graph_keeps_the_bits():
    x = torch.randn(1000, requires_grad=True)
    compiled = torch.compile(lambda t: with_signs(t * 2, 0.1)[0], fullgraph=True, backend="aot_eager")
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = compiled(x)
    assert sum(t.untyped_storage().nbytes() for t in kept) == 125
    y.sum().backward()
    assert torch.equal(x.grad, 2 * torch.where(x > 0, 1.0, 0.1))


def test_estimates_on_fake_tensors_see_the_bits():
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(1000, requires_grad=True)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            y = leaky_relu(x, 0.1)
        assert [(t.dtype, t.numel()) for t in kept] == [(torch.uint8, 125)]
        y.sum().backward()
        assert x.grad.shape == (1000,)
