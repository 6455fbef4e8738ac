"""The check of the data against NumPy over all values, in batches cut anywhere, as arrays and as tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leakyrelu.diagnosis.input_check import InputCheck, check_array, merge_checks
from leakyrelu.torch.diagnosis.batch_checks import BatchChecks

VALUES = st.sampled_from([0.0, -1.5, 3.0, 3e38, -3e38, np.nan, np.inf, -np.inf])


def by_hand(x: np.ndarray) -> InputCheck:
    wrong = np.argwhere(~np.isfinite(x))
    return InputCheck(
        "x",
        len(x),
        int(np.isnan(x).sum()),
        int(np.isinf(x).sum()),
        len({int(place[0]) for place in wrong}),
        int(wrong[0][0]) if len(wrong) else None,
        tuple(map(int, wrong[0][1:])) if len(wrong) else None,
    )


arrays = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(1, 4)) | st.tuples(st.integers(0, 9)),
    elements=VALUES, fill=st.just(1.0),
)  # fmt: skip


@given(arrays, st.lists(st.integers(0, 9), max_size=3))
def test_every_split_finds_what_the_whole_holds(x, cuts):
    parts = np.split(x, sorted(min(cut, len(x)) for cut in cuts))
    assert merge_checks([check_array(part, "x") for part in parts]) == [by_hand(x)]
    checks = BatchChecks()
    for part in parts:
        checks.add("x", torch.from_numpy(part))
    assert checks.read() == [by_hand(x)]


@given(arrays.filter(lambda x: x.ndim == 3))
def test_memory_order_does_not_matter(x):
    checks = BatchChecks()
    checks.add("x", torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))).permute(1, 2, 0))
    assert checks.read() == [by_hand(x)] == [check_array(np.asfortranarray(x), "x")]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.float8_e5m2])
def test_every_type_of_numbers(dtype):
    values = torch.full((40, 5), 6e4).to(dtype)  # their sum is beyond float16
    checks = BatchChecks()
    checks.add("", values)
    values = values.clone()
    values[3, 2] = float("nan")
    checks.add("", values)
    assert checks.read() == [InputCheck("", 80, 1, 0, 1, 43, (2,))]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.complex64])
def test_every_type_of_numbers_of_numpy(dtype):
    values = np.full((40, 5), 6e4, dtype)
    assert check_array(values, "").is_finite
    assert check_array(np.full((9, 9), np.finfo(dtype).max), "").is_finite  # though their sum is not
    values[3, 2] = np.nan
    assert check_array(values, "") == InputCheck("", 40, 1, 0, 1, 3, (2,))


def test_what_holds_no_numbers_is_passed_over():
    checks = BatchChecks()
    checks.add("ids", torch.arange(6).reshape(3, 2))
    checks.add("sparse", torch.eye(3).to_sparse())
    checks.add("meta", torch.zeros(3, device="meta"))
    checks.add("none", torch.zeros(0, 3))
    checks.add("scalar", torch.tensor(float("inf")))
    scalar = InputCheck("scalar", 1, infinite=1, flawed=1, first_sample=0, first_place=())
    assert checks.read() == [InputCheck("ids", 3), InputCheck("none", 0), scalar]
    assert check_array(np.array(np.inf), "scalar") == scalar
    assert check_array(np.array([["a"], ["b"]]), "text") == InputCheck("text", 2)


def test_inputs_are_not_mixed():
    a, b = check_array(np.zeros(3), "a"), check_array(np.array([np.nan]), "b")
    assert merge_checks([a, b, a]) == [InputCheck("a", 6), b]
    with pytest.raises(ValueError, match="checks of different inputs cannot be added: 'a' and 'b'"):
        a + b
    with pytest.raises(TypeError, match="unsupported operand"):
        a + 1
