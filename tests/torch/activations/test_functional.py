"""The PyTorch function against PyTorch's own: values, gradients, layouts and errors; and the memory it keeps."""

import math
import threading
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.tensors import BITS, DTYPES, assert_same_bits, error_of, gradient, kept_bytes, special

from leakyrelu.torch import leaky_relu
from leakyrelu.torch.activations.kernels import pack, unpack

pytestmark = pytest.mark.usefixtures("no_tensor_is_small")

SLOPES = (0.01, 0.0, -0.0, 0.2, 1.0, 1.7, -0.3, math.pi, math.inf, -math.inf, math.nan)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_times_special_gradients(dtype, slope):
    x, grad = (t.reshape(-1) for t in torch.meshgrid(special(dtype), special(dtype), indexing="ij"))
    ours, theirs = gradient(leaky_relu, x, grad, slope), gradient(F.leaky_relu, x, grad, slope)
    assert_same_bits(ours[0], theirs[0])
    assert_same_bits(ours[1], theirs[1])
    assert_same_bits(leaky_relu(x, slope), F.leaky_relu(x, slope))


@pytest.mark.parametrize("slope", [0.01, -0.3, 1.7])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernels", ["native", "plain"])
def test_a_million_values(dtype, slope, kernels, monkeypatch):
    if kernels == "plain":
        # What a device without a native kernel runs.
        monkeypatch.setattr("leakyrelu.torch.activations.kernels.NATIVE_DTYPES", {})
    generator = torch.Generator().manual_seed(1)
    # Every bit pattern is as likely as another: all exponents, subnormals, infinities and NaN.
    x = torch.randint(-(2**63), 2**63 - 1, (1_000_003,), generator=generator).to(BITS[dtype]).view(dtype)
    grad = torch.randn(x.shape, dtype=dtype, generator=generator)
    ours, theirs = gradient(leaky_relu, x, grad, slope), gradient(F.leaky_relu, x, grad, slope)
    assert_same_bits(ours[0], theirs[0])
    assert_same_bits(ours[1], theirs[1])


@pytest.mark.parametrize("slope", [0.01, 0.0, 0.3, -0.3, 1.7])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kernels", ["native", "plain"])
def test_all_sixteen_bit_values(dtype, slope, kernels, monkeypatch):
    if kernels == "plain":
        monkeypatch.setattr("leakyrelu.torch.activations.kernels.NATIVE_DTYPES", {})
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    for grad in (x.flip(0), torch.ones_like(x), torch.full_like(x, 1 / 3)):
        ours, theirs = gradient(leaky_relu, x, grad, slope), gradient(F.leaky_relu, x, grad, slope)
        assert_same_bits(ours[0], theirs[0])
        assert_same_bits(ours[1], theirs[1])


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place_gives_the_gradient_of_out_of_place_for_every_slope(dtype, slope):
    x, grad = (t.reshape(-1) for t in torch.meshgrid(special(dtype), special(dtype), indexing="ij"))
    ours, theirs = gradient(leaky_relu, x, grad, slope, inplace=True), gradient(F.leaky_relu, x, grad, slope)
    assert_same_bits(ours[0], theirs[0])
    assert_same_bits(ours[1], theirs[1])


def test_numpy_agrees():
    generator = np.random.default_rng(3)
    values, grad = generator.standard_normal((2, 7, 13))
    x = torch.tensor(values, requires_grad=True)
    y = leaky_relu(x, 0.3)
    y.backward(torch.tensor(grad))
    np.testing.assert_array_equal(y.detach().numpy(), np.where(values > 0, values, 0.3 * values))
    np.testing.assert_array_equal(x.grad.numpy(), np.where(values > 0, grad, 0.3 * grad))


def test_derivative_at_zero_is_the_slope():
    x = torch.tensor([0.0, -0.0], requires_grad=True)
    leaky_relu(x, 0.3).sum().backward()
    assert x.grad.tolist() == [pytest.approx(0.3)] * 2


# Memory


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000, 4099])
def test_one_bit_an_element_is_kept(n, dtype, inplace):
    x = torch.randn(n, dtype=dtype, requires_grad=True) * 1
    assert kept_bytes(lambda: leaky_relu(x, 0.1, inplace)) == math.ceil(n / 8)


def test_the_memory_test_sees_the_whole_input_of_pytorch():
    x = torch.randn(1000, requires_grad=True)
    assert kept_bytes(lambda: F.leaky_relu(x, 0.1)) == 4000


@pytest.mark.parametrize("inplace", [False, True])
def test_small_tensors_go_the_way_of_pytorch(inplace, monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 4004)
    leaf = torch.randn(1000, requires_grad=True)
    y = leaky_relu(leaf * 1, -0.1, inplace)
    # In place PyTorch has no right gradient for a negative slope: the signs are kept at any size.
    assert ("LeakyReluBackward" in y.grad_fn.name()) is not inplace
    y.sum().backward()
    assert torch.equal(leaf.grad, torch.where(leaf > 0, 1.0, -0.1))
    large = torch.randn(1001, requires_grad=True) * 1
    assert kept_bytes(lambda: leaky_relu(large, -0.1, inplace)) == 126


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_runs_in_the_threads_of_pytorch(dtype, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for n in (98_304, 100_003, 3_000_017):
            x = torch.randn(n, generator=torch.Generator().manual_seed(n)).to(dtype)
            ours, theirs = gradient(leaky_relu, x, x.flip(0), 0.1), gradient(F.leaky_relu, x, x.flip(0), 0.1)
            assert_same_bits(ours[0], theirs[0])
            assert_same_bits(ours[1], theirs[1])
    finally:
        torch.set_num_threads(before)


def test_input_is_released():
    x = torch.randn(1000, requires_grad=True) * 1
    freed = threading.Event()
    weakref.finalize(x, freed.set)
    y = leaky_relu(x, 0.1)
    del x
    assert freed.is_set()
    assert y.grad_fn is not None


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65, 1001])
def test_packed_bits_are_little_endian_and_padded_with_zeros(n):
    mask = np.random.default_rng(n).random(n) < 0.5
    signs = pack(torch.from_numpy(mask))
    np.testing.assert_array_equal(signs.numpy(), np.packbits(mask, bitorder="little"))
    back = unpack(signs, torch.Size((n,)), (1,), torch.float16)
    np.testing.assert_array_equal(back.numpy() > 0, mask)


# Shapes, strides, in place


@st.composite
def tensors(draw):
    """A float32 or bfloat16 tensor, and how it lies in memory: permuted, sliced, expanded or dense."""
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    steps = [draw(st.integers(1, 2)) for _ in shape]
    order = draw(st.permutations(range(len(shape))))
    expand = [draw(st.integers(0, 5)) == 0 for _ in shape]
    offset = draw(st.integers(0, 3))
    dtype = draw(st.sampled_from((torch.float32, torch.float64, torch.bfloat16)))
    base = [1 if expand[d] else shape[d] * steps[d] for d in order]
    flat = torch.randn(math.prod(base) + offset, dtype=dtype, generator=torch.Generator().manual_seed(5))
    x = flat[offset:].reshape(base).permute([order.index(d) for d in range(len(shape))])
    for d, step in enumerate(steps):
        x = x.expand(*(shape[d] if k == d else -1 for k in range(x.dim()))) if expand[d] else x
        x = x[(slice(None),) * d + (slice(None, None, 1 if expand[d] else step),)]
    assert list(x.shape) == shape
    return x


@settings(deadline=None, max_examples=300)
@given(tensors(), st.sampled_from((0.01, -0.5, 1.5)), st.booleans())
def test_any_layout_has_the_values_strides_and_gradients_of_pytorch(x, slope, transposed_grad):
    ours, theirs = x.detach().requires_grad_(), x.detach().requires_grad_()
    y, expected = leaky_relu(ours, slope), F.leaky_relu(theirs, slope)
    assert_same_bits(y, expected)
    assert y.stride() == expected.stride()
    grad = torch.randn(x.shape[::-1] if transposed_grad else x.shape, dtype=x.dtype)
    grad = grad.permute(tuple(reversed(range(x.dim())))) if transposed_grad else grad
    assert_same_bits(torch.autograd.grad(y, ours, grad)[0], torch.autograd.grad(expected, theirs, grad)[0])


@settings(deadline=None, max_examples=200)
@given(tensors(), st.sampled_from((0.01, -0.5, 1.5)), st.booleans())
def test_in_place_in_any_layout_is_out_of_place_written_over_the_input(x, slope, as_view):
    assume(0 not in x.stride())
    leaf = torch.zeros(x.shape, dtype=x.dtype, requires_grad=True)
    target = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
    target.copy_(x).add_(leaf)
    target = target[...] if as_view else target
    strides = target.stride()
    assert leaky_relu(target, slope, inplace=True) is target
    assert target.stride() == strides
    assert_same_bits(target, F.leaky_relu(x, slope))
    grad = torch.randn(x.shape, dtype=x.dtype)
    twin = x.detach().requires_grad_()
    expected = torch.autograd.grad(F.leaky_relu(twin, slope), twin, grad)[0]
    if as_view:
        expected = expected + 0.0  # autograd adds the gradient of what was overwritten: -0.0 + 0.0 is 0.0
    assert_same_bits(torch.autograd.grad(target, leaf, grad)[0], expected)


def test_in_place_on_a_view_a_zero_gradient_loses_its_sign():
    leaf = torch.zeros(3, requires_grad=True)
    view = torch.full((3,), -1.0).add_(leaf)[...]
    leaky_relu(view, -0.5, inplace=True)
    gradient = torch.autograd.grad(view, leaf, torch.tensor([0.0, -0.0, 1.0]))[0]
    assert_same_bits(gradient, torch.tensor([0.0, 0.0, -0.5]))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("inplace", [False, True])
def test_channels_last_stays_channels_last(memory_format, inplace):
    leaf = torch.randn(2, 3, 4, 5).to(memory_format=memory_format).requires_grad_()
    y = leaky_relu(leaf * 1, 0.1, inplace)
    assert y.is_contiguous(memory_format=memory_format)
    grad = torch.randn(2, 3, 4, 5)
    y.backward(grad)
    twin = leaf.detach().clone().requires_grad_()
    F.leaky_relu(twin, 0.1).backward(grad)
    assert_same_bits(leaf.grad, twin.grad)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((1,), (2,)),
        ((0,), (0,)),
        ((3, 0), (0, 7)),
        ((1, 2, 3, 4), (99, 1, 8, 2)),
        ((2, 1, 3), (1, 50, 2)),
        ((1, 1), (5, 9)),
    ],
)
def test_strides_that_mean_nothing_come_out_as_in_pytorch(shape, strides):
    x = torch.empty_strided(shape, strides).normal_().requires_grad_()
    y, expected = leaky_relu(x, 0.1), F.leaky_relu(x, 0.1)
    assert y.stride() == expected.stride()
    assert_same_bits(y, expected)
    assert_same_bits(*(torch.autograd.grad(result.sum(), x)[0] for result in (y, expected)))


VIEWS = {
    "transposed": lambda t: t.t(),
    "every other column": lambda t: t[:, ::2],
    "one row": lambda t: t[1],
    "one element": lambda t: t[1, 2],
    "reshaped": lambda t: t.view(2, 12),
    "diagonal": lambda t: t.diagonal(),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("slope", [0.3, -0.3])
def test_in_place_on_a_view_changes_the_base_and_its_gradient(view, slope):
    leaf = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    base = leaf * 1
    part = view(base)
    assert leaky_relu(part, slope, inplace=True) is part
    (base * torch.arange(24.0).view(4, 6)).sum().backward()

    values = leaf.detach().clone()
    factor = torch.ones(4, 6, dtype=torch.float64)
    view(factor)[view(values) <= 0] = slope
    assert torch.equal(base.detach(), values * factor)
    assert torch.equal(leaf.grad, torch.arange(24.0).view(4, 6) * factor)


def test_in_place_on_memory_with_gaps_that_is_no_view():
    leaf = torch.randn(4, 3, requires_grad=True)
    gaps = torch.empty_strided((4, 3), (7, 2)).copy_(leaf)
    assert gaps.stride() == (7, 2)
    assert not gaps._is_view()
    assert leaky_relu(gaps, -0.5, inplace=True) is gaps
    gaps.sum().backward()
    assert torch.equal(gaps.detach(), torch.where(leaf > 0, leaf, -0.5 * leaf).detach())
    assert torch.equal(leaf.grad, torch.where(leaf > 0, 1.0, -0.5))


def test_in_place_is_noticed_where_the_old_values_were_kept():
    x = torch.randn(5, requires_grad=True).exp()
    leaky_relu(x - 1, 0.1, inplace=True)
    leaky_relu(x, 0.1, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        x.sum().backward()


def test_in_place_without_gradient():
    x = torch.tensor([-1.0, 2.0])
    assert leaky_relu(x, -0.5, inplace=True) is x
    assert x.tolist() == [0.5, 2.0]


# Misuse: type and text of the error are PyTorch's


def overlapping():
    return (torch.randn(1, 3, requires_grad=True) * 1).expand(4, 3)


def leaf():
    return torch.randn(4, requires_grad=True)


MISUSE = {
    "integers": (lambda: torch.arange(4), 0.1),
    "booleans": (lambda: torch.tensor([True]), 0.1),
    "complex": (lambda: torch.randn(3, dtype=torch.complex64), 0.1),
    "complex with a gradient": (lambda: torch.randn(3, dtype=torch.complex64, requires_grad=True), 0.1),
    "list": (lambda: [1.0, 2.0], 0.1),
    "number": (lambda: 3.0, 0.1),
    "none": (lambda: None, 0.1),
    "array": (lambda: np.ones(3), 0.1),
    "slope is a string": (lambda: leaf() * 1, "a"),
    "slope is None": (lambda: leaf() * 1, None),
    "slope is complex": (lambda: leaf() * 1, 1 + 2j),
    "slope is a vector": (lambda: leaf() * 1, torch.tensor([0.1, 0.2])),
    "slope wants a gradient": (lambda: leaf() * 1, torch.tensor(0.1, requires_grad=True)),
    "slope is too large an integer": (lambda: leaf() * 1, 10**30),
    "slope is a string, no gradient": (lambda: torch.ones(2), "a"),
    "slope is None, no gradient": (lambda: torch.ones(2), None),
}
IN_PLACE_MISUSE = {
    "leaf": (leaf, 0.1),
    "leaf, negative slope": (leaf, -0.1),
    "view of a leaf": (lambda: leaf().view(2, 2), 0.1),
    "one of several views": (lambda: (leaf() * 1).unbind()[0], 0.1),
    "overlapping memory": (overlapping, 0.1),
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("make", "slope"), MISUSE.values(), ids=MISUSE.keys())
def test_misuse_raises_what_pytorch_raises(make, slope, inplace):
    kind, text = error_of(F.leaky_relu, make(), slope, inplace)
    # Out of place is the same check without the underscore; PyTorch names whichever function it stopped in.
    ours = error_of(leaky_relu, make(), slope, inplace)
    assert ours[0] is kind
    assert ours[1].replace("leaky_relu_()", "leaky_relu()") == text.replace("leaky_relu_()", "leaky_relu()")


@pytest.mark.parametrize(("make", "slope"), IN_PLACE_MISUSE.values(), ids=IN_PLACE_MISUSE.keys())
def test_in_place_misuse_raises_what_pytorch_raises_and_writes_nothing(make, slope):
    kind, text = error_of(F.leaky_relu, make(), slope, True)
    x = make()
    before = x.detach().clone()
    assert error_of(leaky_relu, x, slope, True) == (kind, text)
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize("slope", [1, True, np.float32(0.3), np.float64(0.3), torch.tensor(0.3), np.int64(2)])
def test_whatever_pytorch_takes_for_a_number_is_a_slope(slope):
    x = torch.randn(9, requires_grad=True)
    y, expected = leaky_relu(x, slope), F.leaky_relu(x, slope)
    assert_same_bits(y, expected)
    assert_same_bits(torch.autograd.grad(y.sum(), x)[0], torch.autograd.grad(expected.sum(), x)[0])
