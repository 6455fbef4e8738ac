"""The PyTorch function among the parts of PyTorch: derivatives of every order, modes, transforms, threads, memory."""

import copy
import math
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from support.tensors import DTYPES, error_of, kept_bytes
from torch.autograd import forward_ad

from leakyrelu.torch import NormLeakyReLU, diagnose, leaky_relu

pytestmark = pytest.mark.usefixtures("no_tensor_is_small")


# Derivatives of every order and mode


@pytest.mark.parametrize("slope", [0.2, 0.0, -0.7, 1.5])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (3, 4)])
def test_gradcheck(slope, inplace, shape):
    x = torch.randn(shape, dtype=torch.float64).requires_grad_()

    def function(x):
        return leaky_relu(x * 1, slope, inplace)

    torch.autograd.gradcheck(
        function, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    torch.autograd.gradgradcheck(function, x, check_fwd_over_rev=True, check_batched_grad=True)


def test_third_derivative_of_a_square():
    x = torch.tensor([-2.0, 3.0], dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad((leaky_relu(x, 0.5) ** 4).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x, create_graph=True)[0]
    third = torch.autograd.grad(second.sum(), x)[0]
    # (a x)^4 has the third derivative 24 a^4 x.
    assert third.tolist() == [24 * 0.5**4 * -2, 24 * 3]


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_mode(dtype, inplace, requires_grad):
    x = torch.tensor([-2.0, 0.0, 3.0, math.nan], dtype=dtype, requires_grad=requires_grad)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=dtype)) * 1
        tangent = forward_ad.unpack_dual(leaky_relu(dual, -0.5, inplace)).tangent
    assert tangent.tolist() == [-0.5, -1.0, 3.0, -2.0]


@pytest.mark.parametrize("inplace", [False, True])
def test_torch_func(inplace):
    x = torch.randn(5, 3, dtype=torch.float64)

    def ours(t):
        return leaky_relu(t * 1, -0.3, inplace)

    def theirs(t):
        return F.leaky_relu(t * 1, -0.3)

    for transform in (
        torch.func.vmap,
        lambda f: torch.func.vmap(torch.func.grad(lambda t: f(t).square().sum())),
        torch.func.jacrev,
        torch.func.jacfwd,
        lambda f: torch.func.hessian(lambda t: f(t).square().sum()),
        lambda f: lambda t: torch.func.jvp(f, (t,), (t.cos(),))[1],
    ):
        assert torch.equal(transform(ours)(x), transform(theirs)(x))


def test_tangent_of_a_gradient_without_a_graph():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    y = leaky_relu(x, 0.5)
    with forward_ad.dual_level():
        grad = forward_ad.make_dual(torch.tensor([1.0, 1.0]), torch.tensor([3.0, 4.0]))
        (found,) = torch.autograd.grad(y, x, grad)
        assert forward_ad.unpack_dual(found).tangent.tolist() == [1.5, 4.0]


def test_gradient_that_does_not_come():
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return None

    for function in (leaky_relu, F.leaky_relu):
        x = torch.randn(3, requires_grad=True)
        Stop.apply(function(x, 0.1)).sum().backward()
        assert x.grad is None


def test_backward_twice_over_one_graph():
    x = torch.randn(9, requires_grad=True)
    y = leaky_relu(x, 0.1).sum()
    y.backward(retain_graph=True)
    first = x.grad.clone()
    y.backward()
    assert torch.equal(x.grad, 2 * first)


# The rest of PyTorch


def test_autocast_leaves_the_dtype_as_pytorch_does():
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in DTYPES:
            x = torch.randn(9, dtype=dtype, requires_grad=True)
            y = leaky_relu(x, 0.1)
            assert y.dtype == F.leaky_relu(x, 0.1).dtype
            y.sum().backward()
            assert x.grad.dtype == dtype
        hidden = torch.randn(4, 3) @ torch.randn(3, 2, requires_grad=True)
        assert leaky_relu(hidden, 0.1).dtype == F.leaky_relu(hidden, 0.1).dtype == torch.bfloat16


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("slope", [0.1, -0.1])
def test_compiles_without_a_graph_break(slope, inplace):
    compiled = torch.compile(lambda t: leaky_relu(t * 1, slope, inplace), fullgraph=True, backend="aot_eager")
    x = torch.randn(9, requires_grad=True)
    y = compiled(x)
    y.sum().backward()
    assert torch.equal(y, torch.where(x > 0, x, slope * x))
    assert torch.equal(x.grad, torch.where(x > 0, 1.0, slope))


def test_traced_and_exported_as_the_standard_operator():
    x = torch.randn(9, requires_grad=True)
    program = torch.export.export(Wrapper(), (x,))
    assert "aten.leaky_relu.default" in str(program.graph)


class Wrapper(torch.nn.Module):
    def forward(self, x):
        return leaky_relu(x, 0.1)


def test_meta_and_fake_tensors():
    meta = torch.empty(3, 4, device="meta", requires_grad=True)
    y = leaky_relu(meta, 0.1)
    assert y.is_meta
    assert y.shape == (3, 4)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.randn(3, 4)).requires_grad_()
        y = leaky_relu(fake, 0.1)
        assert type(y) is type(fake)
        y.sum().backward()
        assert fake.grad.shape == (3, 4)


def test_default_device_changes_nothing():
    x = torch.randn(3, 8, requires_grad=True)
    with torch.device("meta"):
        assert kept_bytes(lambda: leaky_relu(x.t(), 0.1)) == 3
        leaky_relu(x.t(), 0.1).sum().backward()
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, x.detach())
            tangent = forward_ad.unpack_dual(leaky_relu(dual, 0.1)).tangent
    assert torch.equal(x.grad, torch.where(x > 0, 1.0, 0.1))
    assert torch.equal(tangent, F.leaky_relu(x, 0.1))


def test_dispatch_modes_see_the_registered_operator():
    class Log(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            calls.append(function)
            return function(*args, **(kwargs or {}))

    calls = []
    x = torch.randn(3, requires_grad=True)
    y = leaky_relu(x, 0.1)
    with Log():
        leaky_relu(x, 0.1)
        y.sum().backward()
    assert torch.ops.leakyrelu.with_signs.default in calls
    assert torch.ops.leakyrelu.from_signs.default in calls  # of the call that the mode did not see
    assert torch.equal(x.grad, torch.where(x > 0, 1.0, 0.1))


def test_function_modes_see_the_call_of_pytorch():
    class Log(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            calls.append(function)
            return function(*args, **(kwargs or {}))

    calls = []
    x = torch.randn(3, requires_grad=True)
    with Log():
        leaky_relu(x, 0.1)
    assert F.leaky_relu in calls


def test_symbolic_trace():
    graph = torch.fx.symbolic_trace(Wrapper())
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [F.leaky_relu]
    x = torch.randn(9)
    assert torch.equal(graph(x), F.leaky_relu(x, 0.1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_fail_as_in_pytorch():
    x = torch.nested.as_nested_tensor([torch.ones(2, requires_grad=True), torch.ones(1)])
    assert error_of(leaky_relu, x, 0.5) == error_of(F.leaky_relu, x, 0.5)


class Logged(torch.Tensor):
    calls: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.calls.append(function)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_subclasses_see_the_call_of_pytorch():
    x = torch.randn(3).as_subclass(Logged).requires_grad_()
    Logged.calls.clear()
    assert type(leaky_relu(x, 0.1)) is Logged
    assert Logged.calls[0] is F.leaky_relu


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*:UserWarning")
def test_quantized_tensors_go_to_pytorch():
    x = torch.quantize_per_tensor(torch.tensor([-1.0, 2.0]), 0.1, 0, torch.qint8)
    assert leaky_relu(x, 0.5).dequantize().tolist() == pytest.approx([-0.5, 2.0])


def test_negated_views():
    x = torch.tensor([1 - 2j, 3 + 4j, 0j], dtype=torch.complex64, requires_grad=True)
    imaginary = x.conj().imag
    assert imaginary.is_neg()
    y = leaky_relu(imaginary, 0.5)
    assert y.tolist() == [2.0, -2.0, 0.0]
    y.sum().backward()
    assert x.grad.tolist() == [-1j, -0.5j, -0.5j]


def test_negated_views_without_gaps():
    x = torch.tensor([-2.0, 4.0], requires_grad=True)
    y = leaky_relu(torch._neg_view(x), 0.5)
    assert y.tolist() == [2.0, -2.0]
    (found,) = torch.autograd.grad(y, x, torch._neg_view(torch.tensor([1.0, 2.0])))
    assert found.tolist() == [1.0, 1.0]


def test_checkpoint_and_hooks_on_saved_tensors():
    x = torch.randn(9, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(lambda t: leaky_relu(t, 0.1), x, use_reentrant=False)
    y.sum().backward()
    expected = x.grad.clone()
    x.grad = None
    with torch.autograd.graph.save_on_cpu():
        leaky_relu(x, 0.1).sum().backward()
    assert torch.equal(x.grad, expected)
    assert torch.equal(expected, torch.where(x > 0, 1.0, 0.1))


def test_several_threads_at_once():
    inputs = [torch.randn(50_000, generator=torch.Generator().manual_seed(k)) for k in range(8)]
    results: dict[int, torch.Tensor] = {}

    def work(k: int) -> None:
        for _ in range(5):
            x = inputs[k].clone().requires_grad_()
            (leaky_relu(x, 0.1 * k) * x).sum().backward()
            results[k] = x.grad

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, values in enumerate(inputs):
        x = values.clone().requires_grad_()
        (F.leaky_relu(x, 0.1 * k) * x).sum().backward()
        assert torch.equal(results[k], x.grad)


def test_no_gradient_keeps_nothing():
    x = torch.randn(4, requires_grad=True)
    with torch.no_grad():
        assert leaky_relu(x, 0.1).grad_fn is None
    with torch.inference_mode():
        assert leaky_relu(x, 0.1).is_inference()
    assert copy.deepcopy(leaky_relu(x.detach(), 0.1)).grad_fn is None


def test_large_fresh_outputs_begin_where_huge_pages_do():
    """In a process of its own, whose malloc maps all large memory freshly."""
    code = """
import ctypes
from leakyrelu.torch import leaky_relu
import torch
ctypes.CDLL(None).mallopt(-3, 128 * 1024)
kept = []
for k in range(8):
    x = torch.zeros(2**21 + 5000 * k, requires_grad=True)
    y = leaky_relu(x, 0.1)
    (gradient,) = torch.autograd.grad(y, x, x.detach())
    kept += [x, y, gradient]
    lines = open("/proc/self/maps").read().splitlines()
    for tensor in (y, gradient):
        begin = next(int(line.split("-")[0], 16) for line in lines
                     if int(line.split("-")[0], 16) <= tensor.data_ptr() < int(line.split()[0].split("-")[1], 16))
        print((begin + 4096) % 2**21)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # A hint, which another mapping or a gap that is just too short defeats. By chance one in 512 would lie so.
    places = done.stdout.split()
    assert len(places) == 16
    assert places.count("0") >= 4, places


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_at_any_address(dtype):
    """torch.frombuffer takes any offset, and PyTorch's own functions take what it returns."""

    def anywhere():
        return torch.frombuffer(bytearray(8 * 60 + 1), dtype=dtype, offset=1, count=60).view(2, 3, 10).copy_(values)

    values = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert anywhere().data_ptr() % dtype.itemsize
    x, near = anywhere().requires_grad_(), values.clone().requires_grad_()
    y = leaky_relu(x, 0.1)
    y.backward(anywhere())
    F.leaky_relu(near, 0.1).backward(values)
    assert torch.equal(y, F.leaky_relu(values, 0.1))
    assert torch.equal(x.grad, near.grad)

    norm = torch.nn.BatchNorm1d(3, dtype=None if dtype.itemsize == 2 else dtype)
    pair = torch.nn.Sequential(copy.deepcopy(norm), torch.nn.LeakyReLU(0.1))
    layer = NormLeakyReLU(norm, 0.1)
    x, near = anywhere().requires_grad_(), values.clone().requires_grad_()
    out, expected = layer(x), pair(near)
    out.backward(anywhere())
    expected.backward(values)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x.grad, near.grad, rtol=2e-2, atol=2e-2)

    report = diagnose(torch.nn.Sequential(torch.nn.LeakyReLU(0.1)), [anywhere()])
    assert (report.layers[0].positive_share == (values > 0).double().mean((0, 2)).numpy()).all()
