"""Functions by name, and which calls change their argument."""

import operator

import pytest
import torch
import torch.nn.functional as F

from leakyrelu.torch.graph.functions import functions_named, is_in_place, overwrites
from leakyrelu.torch.rewrite.function_calls import LeakyFunction


def test_functions_methods_and_operators_go_by_one_name():
    aten = torch.ops.aten
    assert functions_named("relu") == [torch.relu, torch.Tensor.relu, F.relu, aten.relu, aten.relu.default]
    assert aten.conv_transpose2d.input in functions_named("conv_transpose2d")  # which has no default
    assert functions_named("no_such_function") == []


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (F.relu, (0,), {}, False),
        (F.relu, (0, True), {}, True),
        (F.relu, (0,), {"inplace": True}, True),
        (F.relu, (), {"input": 0, "inplace": True}, True),
        (F.dropout, (0, 0.5, True, True), {}, True),
        (F.dropout, (0, 0.5, True), {}, False),
        (LeakyFunction(0.1), (0, True), {}, True),
        (torch.relu_, (0,), {}, True),
        (torch.ops.aten.relu_.default, (0,), {}, True),
        (torch.ops.aten.add_.Tensor, (0, 1), {}, True),
        (torch.ops.aten.add.Tensor, (0, 1), {}, False),
        ("relu_", (0,), {}, True),
        ("relu", (0,), {}, False),
        ("requires_grad_", (0,), {}, False),
        ("__getitem__", (0, 1), {}, False),
        (operator.iadd, (0, 1), {}, True),
        (operator.add, (0, 1), {}, False),
        (operator.invert, (0,), {}, False),
        (operator.setitem, (0, 1, 2), {}, True),
    ],
)
def test_calls_in_place(function, args, kwargs, expected):
    assert is_in_place(function, args, kwargs) is expected


def test_what_a_call_overwrites():
    graph = torch.fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    assert overwrites(graph.call_function(F.relu, (), {"input": x, "inplace": True}), x)
    assert overwrites(graph.call_method("add_", (x, y)), x)
    assert not overwrites(graph.call_method("add_", (x, y)), y)
    assert overwrites(graph.call_function(torch.add, (x, y), {"out": y}), y)
    assert not overwrites(graph.output(x), x)
