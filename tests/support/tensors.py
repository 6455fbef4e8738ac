"""Tensors of special values, and what is compared of two functions of tensors: bits, gradients, memory, errors."""

import math

import pytest
import torch

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BITS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def assert_same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Every bit equal; NaN stands for NaN, whatever its payload."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    ours, theirs = ours.detach(), theirs.detach()
    assert torch.equal(ours.isnan(), theirs.isnan())
    kind = BITS[ours.dtype]
    numbers = ~theirs.isnan()
    assert torch.equal(ours[numbers].view(kind), theirs[numbers].view(kind))


def special(dtype: torch.dtype) -> torch.Tensor:
    info = torch.finfo(dtype)
    smallest = float(torch.ones(1, dtype=BITS[dtype]).view(dtype).item())
    values = [0.0, 1.0, 0.5, 3.0, info.max, info.tiny, info.tiny / 2, smallest, info.eps, math.inf, math.nan, 1 / 3]
    return torch.tensor([*values, *(-value for value in values)], dtype=dtype)


def gradient(function, x: torch.Tensor, grad: torch.Tensor, slope: float, **options: bool) -> tuple:
    x = x.clone().requires_grad_()
    y = function(x * 1 if options.get("inplace") else x, slope, **options)
    return y, torch.autograd.grad(y, x, grad)[0]


def kept_bytes(function) -> int:
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    assert result.grad_fn is not None
    return sum(storages.values())


def error_of(function, *arguments) -> tuple:
    try:
        function(*arguments)
    except Exception as error:
        return type(error), str(error)
    pytest.fail("no error")
