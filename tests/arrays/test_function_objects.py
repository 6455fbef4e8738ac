"""The array functions and ufuncs as objects: pickled, copied, inspected, reduced."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc

import numpy as np
import pytest
from oracle.reference import same_bits

import leakyrelu
from leakyrelu import (
    _core,
    leaky_relu,
)

FUNCTIONS = [getattr(leakyrelu, name) for name in leakyrelu.arrays.__all__ if name.startswith("leaky")]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functions_can_be_pickled_copied_and_inspected(function):
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function
    assert inspect.signature(function).parameters["alpha"].default == 0.01
    assert inspect.getdoc(function).splitlines()[0]


def test_ufuncs_are_true_numpy_ufuncs():
    for name, inputs in (("leaky_relu", 2), ("leaky_relu_backward", 3), ("leaky_relu_inverse", 2)):
        ufunc = getattr(_core, name)
        assert isinstance(ufunc, np.ufunc)
        assert (ufunc.nin, ufunc.nout, ufunc.__name__) == (inputs, 1, name)
        assert pickle.loads(pickle.dumps(ufunc)) is ufunc
    x = np.array([-1.0, 2.0])
    assert _core.leaky_relu.outer(x, [0.5, 0.25]).tolist() == [[-0.5, -0.25], [2.0, 2.0]]
    _core.leaky_relu.at(x, [0, 0], 0.5)
    assert x.tolist() == [-0.25, 2.0]


@pytest.mark.parametrize("length", [2, 70, 5000, 1_000_000])
def test_reduce_and_accumulate_go_one_after_the_other(length):
    x = np.random.default_rng(0).uniform(1 - 1e-4, 1 + 1e-4, size=length)
    x[0] = -1.0
    products = np.multiply.accumulate(x)
    assert same_bits(_core.leaky_relu.accumulate(x), products)
    assert same_bits(_core.leaky_relu.reduce(x), products[-1])
    assert same_bits(_core.leaky_relu.accumulate(np.repeat(x, 2)[::2]), products)
    rows = np.stack([x, -x])
    assert same_bits(_core.leaky_relu.accumulate(rows, axis=1)[0], products)
    assert same_bits(_core.leaky_relu.reduce(rows, axis=1)[0], products[-1])


@pytest.mark.parametrize("name", ["leaky_relu", "leaky_relu_backward", "leaky_relu_inverse"])
def test_help_shows_the_arguments(name):
    function = getattr(leakyrelu, name)
    first, second = pydoc.plain(pydoc.render_doc(function)).splitlines()[2:4]
    assert first.startswith(f"{name}(")
    assert "alpha: 'Any' = 0.01" in first
    assert second.strip() == inspect.getdoc(function).splitlines()[0]


def test_a_function_in_a_class_binds_to_nothing():
    class Holder:
        activation = leaky_relu

    assert Holder.activation is leaky_relu
    assert Holder().activation is leaky_relu


def test_the_fast_path_takes_the_default_of_alpha_from_the_function():
    def function(x, alpha=0.25):
        raise AssertionError("the general path")

    fast = _core.fast_path(function, "leaky_relu")
    assert fast(-2.0) == -0.5
    np.testing.assert_array_equal(fast(np.array([-2.0, 3.0])), [-0.5, 3.0])
    assert fast(-2.0, 0.5) == -1.0
    for without in (lambda x: x, lambda x=1, alpha=0.1: x):
        with pytest.raises(TypeError, match="must have one default, that of alpha"):
            _core.fast_path(without, "leaky_relu")
    with pytest.raises(ValueError, match="fast_path: there is no operation named relu"):
        _core.fast_path(function, "relu")
