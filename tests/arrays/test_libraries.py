"""Libraries that implement NumPy's ufunc protocol get their own type back; other objects are refused."""

from __future__ import annotations

import array
import re
import sys

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from oracle import reference

import leakyrelu
from leakyrelu import (
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_backward_from_signs,
    leaky_relu_inverse,
    leaky_relu_with_signs,
)

X = np.linspace(-2.0, 2.0, 12).reshape(3, 4)
EXPECTED = reference.leaky_relu(X, 0.1)


def test_dask_stays_lazy_and_comes_back_dask():
    lazy = da.from_array(X, chunks=2)
    result = leaky_relu(lazy, 0.1)
    assert isinstance(result, da.Array)
    assert result.chunks == lazy.chunks
    np.testing.assert_array_equal(result.compute(), EXPECTED)
    np.testing.assert_allclose(leaky_relu_inverse(result, 0.1).compute(), X)
    np.testing.assert_array_equal(
        leaky_relu_backward(lazy, lazy, 0.1).compute(), reference.leaky_relu_backward(X, X, 0.1)
    )
    np.testing.assert_array_equal(leaky_relu(X, da.from_array(np.float64(0.1))).compute(), EXPECTED)
    assert leaky_relu(lazy.astype(np.float32), 0.1).dtype == np.float32


def test_xarray_keeps_labels_and_attributes():
    labelled = xr.DataArray(X, dims=("time", "unit"), coords={"time": [10, 20, 30]}, attrs={"units": "mV"}, name="v")
    result = leaky_relu(labelled, 0.1)
    assert isinstance(result, xr.DataArray)
    xr.testing.assert_identical(result, labelled.copy(data=EXPECTED))
    per_unit = xr.DataArray([0.1, 0.2, 0.3, 0.4], dims="unit")
    np.testing.assert_array_equal(leaky_relu(labelled, per_unit), reference.leaky_relu(X, per_unit.values))
    dataset = leaky_relu(xr.Dataset({"v": labelled}), 0.1)
    xr.testing.assert_equal(dataset["v"], result)


def test_pandas_keeps_index_and_columns():
    frame = pd.DataFrame(X, index=list("abc"), columns=list("wxyz"))
    result = leaky_relu(frame, 0.1)
    pd.testing.assert_frame_equal(result, pd.DataFrame(EXPECTED, index=frame.index, columns=frame.columns))
    series = leaky_relu(frame["w"], 0.1)
    pd.testing.assert_series_equal(series, pd.Series(EXPECTED[:, 0], index=frame.index, name="w"))


def test_masked_array_keeps_its_mask():
    masked = np.ma.masked_greater(X, 1.0)
    result = leaky_relu(masked, 0.1)
    assert isinstance(result, np.ma.MaskedArray)
    np.testing.assert_array_equal(result.mask, masked.mask)
    np.testing.assert_array_equal(result.compressed(), EXPECTED[~masked.mask])


def test_memory_map(tmp_path):
    mapped = np.memmap(tmp_path / "x.bin", dtype=np.float64, mode="w+", shape=X.shape)
    mapped[:] = X
    np.testing.assert_array_equal(leaky_relu(mapped, 0.1), EXPECTED)
    leaky_relu(mapped, 0.1, out=mapped)
    mapped.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "x.bin").reshape(X.shape), EXPECTED)
    y, signs = leaky_relu_with_signs(mapped, 0.1, out=mapped)
    assert y is mapped
    np.testing.assert_array_equal(signs, reference.signs(X))


def test_torch_tensor_goes_to_its_adapter_and_keeps_its_gradient():
    tensor = torch.tensor([-2.0, 3.0], requires_grad=True)
    result = leaky_relu(tensor, 0.25)
    assert isinstance(result, torch.Tensor)
    result.sum().backward()
    assert tensor.grad.tolist() == [0.25, 1.0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.0, 1.0, 3.7, -0.5])
def test_a_million_values_and_gradients_are_those_of_pytorch_bit_for_bit(dtype, alpha):
    x, grad = reference.samples(dtype, 1_000_000, seed=1), reference.samples(dtype, 1_000_000, seed=2)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.leaky_relu(tensor, alpha)
    expected.backward(torch.from_numpy(grad))
    assert reference.same_bits(leaky_relu(x, alpha), expected.detach().numpy())
    assert reference.same_bits(leaky_relu_backward(grad, x, alpha), tensor.grad.numpy())
    y, signs = leaky_relu_with_signs(x, alpha)
    assert reference.same_bits(y, expected.detach().numpy())
    assert reference.same_bits(leakyrelu.leaky_relu_backward_from_signs(grad, signs, alpha), tensor.grad.numpy())


@pytest.mark.parametrize(
    ("keyword", "value"), [("out", X), ("dtype", np.float32), ("where", np.array(True)), ("where", False)]
)
def test_numpy_keywords_are_refused_for_a_tensor(keyword, value):
    with pytest.raises(TypeError, match=rf"leaky_relu: {keyword}= is for NumPy arrays and x is a PyTorch tensor; use"):
        leaky_relu(torch.zeros(1), 0.1, **{keyword: value})


class Tensor:
    """A stand-in for a framework's tensor: convertible to NumPy, but without the ufunc protocol."""

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("converted silently")


def test_a_type_without_an_adapter_is_refused_by_name():
    foreign = Tensor()
    for name, call in (
        ("x", lambda: leaky_relu(foreign)),
        ("alpha", lambda: leaky_relu(X, foreign)),
        ("out", lambda: leaky_relu(X, out=foreign)),
        ("out", lambda: leaky_relu(X, out=(foreign,))),
        ("grad", lambda: leaky_relu_backward(foreign, X)),
        ("x", lambda: leaky_relu_backward(X, foreign)),
        ("y", lambda: leaky_relu_inverse(foreign)),
    ):
        with pytest.raises(
            TypeError, match=rf"{name} is a .*Tensor, which has no adapter here.*numpy\.asarray\({name}\)"
        ):
            call()


TENSOR = torch.tensor([-2.0, 3.0])


@pytest.mark.parametrize(
    ("operand", "call", "adapter"),
    [
        ("alpha", lambda t: leaky_relu(X, t), "prelu"),
        ("grad", lambda t: leaky_relu_backward(t, X), "leaky_relu"),
        ("x", lambda t: leaky_relu_backward(X, t), "leaky_relu"),
        ("y", lambda t: leaky_relu_inverse(t), None),
        ("x", lambda t: leaky_relu_with_signs(t), "leaky_relu"),
        ("alpha", lambda t: leaky_relu_with_signs(X, t), "prelu"),
        ("grad", lambda t: leaky_relu_backward_from_signs(t, np.zeros(1, np.uint8)), "leaky_relu"),
    ],
)
def test_the_refusal_of_a_tensor_names_the_function_for_it(operand, call, adapter):
    for tensor, kind in ((TENSOR, "Tensor"), (torch.nn.Parameter(TENSOR), "Parameter")):
        with pytest.raises(TypeError, match=rf"{operand} is a torch\..*{kind}, which has no adapter here; ") as refusal:
            call(tensor)
        remedy = str(refusal.value)
        assert "asarray" not in remedy
        assert re.findall(r"leakyrelu\.torch\.(\w+)", remedy) == ([adapter] if adapter else [])
        assert adapter is None or adapter in leakyrelu.torch.__all__


def test_the_inverse_named_for_tensors_is_the_inverse():
    with pytest.raises(TypeError, match=re.escape("torch.where(y > 0, y, y / alpha)")):
        leaky_relu_inverse(TENSOR)
    found = eval("torch.where(y > 0, y, y / alpha)", {"torch": torch, "y": TENSOR, "alpha": 0.1})
    np.testing.assert_array_equal(found, leaky_relu_inverse(TENSOR.numpy(), 0.1))


@pytest.mark.parametrize("wrap", [lambda t: [t, t], lambda t: (t, t), lambda t: [([t],)]])
@pytest.mark.parametrize(
    ("operand", "call"),
    [
        ("x", leaky_relu),
        ("alpha", lambda x: leaky_relu(X, x)),
        ("grad", lambda x: leaky_relu_backward(x, X)),
        ("y", leaky_relu_inverse),
        ("x", leaky_relu_with_signs),
        ("grad", lambda x: leaky_relu_backward_from_signs(x, np.zeros(1, np.uint8))),
    ],
)
def test_lists_of_foreign_arrays_do_not_come_back_as_numpy(wrap, operand, call):
    with pytest.raises(TypeError, match=rf"{operand} is a \w+ of torch\.Tensor, .* torch\.stack; ") as refusal:
        call(wrap(TENSOR))
    assert "asarray" not in str(refusal.value)
    with pytest.raises(TypeError, match=rf"{operand} is a \w+ of .*Tensor, .* numpy\.asarray"):
        call(wrap(Tensor()))


def test_the_remedy_for_a_list_of_tensors_is_named():
    with pytest.raises(TypeError, match=r"x is a list of .* torch\.stack; leakyrelu\.torch\.leaky_relu"):
        leaky_relu([TENSOR, TENSOR])


def test_lists_of_numbers_and_numpy_arrays_stay_welcome():
    for x in ([-2.0, 3.0], (X, X), [[], []], [[np.float32(-2)], (3,)]):
        np.testing.assert_array_equal(leaky_relu(x, 0.1), reference.leaky_relu(np.asarray(x, np.float64), 0.1))
        np.testing.assert_array_equal(leaky_relu_with_signs(x, 0.1)[0], leaky_relu(x, 0.1))
    endless = []
    endless.append(endless)
    with pytest.raises((TypeError, ValueError)):
        leaky_relu(endless)


def test_packed_signs_are_for_numpy_arrays():
    for foreign in (Tensor(), da.from_array(X), pd.Series(X[0]), np.ma.masked_greater(X, 1)):
        with pytest.raises(TypeError, match=r"x is a .*, and packed signs are for NumPy arrays; convert it with"):
            leaky_relu_with_signs(foreign)
        with pytest.raises(TypeError, match=r"grad is a .*, and packed signs are for NumPy arrays"):
            leakyrelu.leaky_relu_backward_from_signs(foreign, np.zeros(2, np.uint8))


def test_plain_python_containers_are_arrays():
    assert leaky_relu(array.array("d", [-1.0, 2.0]), 0.5).tolist() == [-0.5, 2.0]
    assert leaky_relu(range(-1, 2), 0.5).tolist() == [-0.5, 0.0, 1.0]


def test_frameworks_are_looked_up_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert leaky_relu([-1.0], 0.5).tolist() == [-0.5]
