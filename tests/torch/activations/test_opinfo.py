"""PyTorch's own samples for its operator and its module, with ours in their place."""

from __future__ import annotations

import importlib
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

from leakyrelu.torch import LeakyReLU, leaky_relu

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*torch.jit")
    importlib.import_module("torch._decomp.decompositions_for_jvp")

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OPERATOR = next(op for op in op_db if op.name == "nn.functional.leaky_relu")
MODULE = next(info for info in module_db if info.module_cls is nn.LeakyReLU)


@pytest.fixture(autouse=True)
def _no_tensor_is_small(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)


# PyTorch's own samples


def first_and_second(function, sample):
    """Output, gradient and gradient of the gradient for one sample of PyTorch's."""
    x = sample.input.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x * 1, *sample.args, **sample.kwargs)
    grad = torch.linspace(-1, 2, max(y.numel(), 1), dtype=y.dtype)[: y.numel()].reshape(y.shape).requires_grad_()
    (first,) = torch.autograd.grad(y, x, grad, create_graph=True)
    (second,) = torch.autograd.grad(first, grad, torch.ones_like(first))
    return y, first, second


def samples(dtype):
    yield from OPERATOR.sample_inputs("cpu", dtype, requires_grad=True)
    yield from (sample.noncontiguous() for sample in OPERATOR.sample_inputs("cpu", dtype, requires_grad=True))
    for memory_format in (torch.channels_last, torch.contiguous_format):
        for sample in OPERATOR.sample_inputs("cpu", dtype, requires_grad=True):
            sample.input = (
                sample.input.detach().expand(2, 3, *sample.input.shape[-2:]).contiguous(memory_format=memory_format)
                if sample.input.dim() == 2
                else sample.input
            )
            yield sample


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_of_the_operator(dtype):
    count = 0
    for sample in samples(dtype):
        for ours, theirs in zip(
            first_and_second(leaky_relu, sample), first_and_second(F.leaky_relu, sample), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, check_stride=True)
        count += 1
    assert count >= 8


def test_samples_of_the_operator_pass_gradcheck():
    for sample in OPERATOR.sample_inputs("cpu", torch.float64, requires_grad=True):
        for layout in (sample, sample.noncontiguous()):

            def function(x, layout=layout):
                return leaky_relu(x * 1, *layout.args, **layout.kwargs)

            torch.autograd.gradcheck(function, layout.input, check_forward_ad=True, check_batched_grad=True)
            torch.autograd.gradgradcheck(function, layout.input, check_fwd_over_rev=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_of_the_module(dtype, training):
    count = 0
    for sample in MODULE.module_inputs_func(MODULE, "cpu", dtype, requires_grad=True, training=training):
        make, call = sample.constructor_input, sample.forward_input
        ours, theirs = LeakyReLU(*make.args, **make.kwargs), nn.LeakyReLU(*make.args, **make.kwargs)
        results = []
        for layer in (ours, theirs):
            x = call.args[0].detach().clone().requires_grad_()
            y = layer(x * 1)
            results.append((y, torch.autograd.grad(y.sum(), x)[0]))
        for mine, expected in zip(*results, strict=True):
            torch.testing.assert_close(mine, expected, rtol=0, atol=0, check_stride=True)
        assert repr(ours) == repr(theirs)
        count += 1
    assert count > 0
