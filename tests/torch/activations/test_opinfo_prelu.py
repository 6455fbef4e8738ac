"""PyTorch's own samples for `nn.functional.prelu` and `nn.PReLU`, with ours in their place."""

from __future__ import annotations

import importlib
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

from leakyrelu.torch import PReLU, prelu

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*torch.jit")
    importlib.import_module("torch._decomp.decompositions_for_jvp")

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OPERATOR = next(op for op in op_db if op.name == "nn.functional.prelu")
MODULE = next(info for info in module_db if info.module_cls is nn.PReLU)


@pytest.fixture(autouse=True)
def _no_tensor_is_small(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.parametric._SMALL", 0)


def samples(dtype):
    for sample in OPERATOR.sample_inputs("cpu", dtype, requires_grad=True):
        for layout in (sample, sample.noncontiguous()):
            yield layout.input, layout.args[0] if layout.args else layout.kwargs["weight"]


def first_and_second(function, x, w):
    """Output, gradients, and gradients of the gradients."""
    tensors = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_(t.requires_grad) for t in (x, w)]
    y = function(tensors[0] * 1, tensors[1])
    wanted = [t for t in tensors if t.requires_grad]
    grad = torch.linspace(-1, 2, max(y.numel(), 1), dtype=y.dtype)[: y.numel()].reshape(y.shape).requires_grad_()
    first = torch.autograd.grad(y, wanted, grad, create_graph=True)
    # A derivative that is 0 may be absent.
    second = torch.autograd.grad(
        sum(t.sum() for t in first), [*wanted, grad], allow_unused=True, materialize_grads=True
    )
    return y, *first, *second


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_of_the_operator(dtype):
    count = 0
    for x, w in samples(dtype):
        ours, theirs = first_and_second(prelu, x, w), first_and_second(F.prelu, x, w)
        for mine, expected in zip(ours, theirs, strict=True):
            wide = 4 if dtype in (torch.float16, torch.bfloat16) else 10
            eps = wide * torch.finfo(dtype).eps
            torch.testing.assert_close(mine, expected, rtol=eps, atol=eps * max(1, x.numel()))
        torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=0, check_stride=True)
        count += 1
    assert count >= 40


def test_samples_of_the_operator_pass_gradcheck():
    for x, w in samples(torch.float64):
        if x.numel() > 30:
            continue

        def function(x, w):
            return prelu(x * 1, w)

        torch.autograd.gradcheck(function, (x, w), check_forward_ad=True, check_batched_grad=True)
        torch.autograd.gradgradcheck(function, (x, w), check_fwd_over_rev=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_of_the_module(dtype, training):
    count = 0
    for sample in MODULE.module_inputs_func(MODULE, "cpu", dtype, requires_grad=True, training=training):
        make, call = sample.constructor_input, sample.forward_input
        ours, theirs = (kind(*make.args, **make.kwargs).to(dtype) for kind in (PReLU, nn.PReLU))
        results = []
        for layer in (ours, theirs):
            x = call.args[0].detach().clone().requires_grad_()
            y = layer(x * 1)
            results.append((y, *torch.autograd.grad(y.sum(), (x, layer.weight))))
        for mine, expected in zip(results[0][:2], results[1][:2], strict=True):
            torch.testing.assert_close(mine, expected, rtol=0, atol=0, check_stride=True)
        torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-2)
        assert repr(ours) == repr(theirs)
        count += 1
    assert count > 0
