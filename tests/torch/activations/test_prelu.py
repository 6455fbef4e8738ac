"""Learned slopes against PyTorch's: values, gradients, layouts, errors; and the memory that is kept."""

from __future__ import annotations

import copy
import importlib
import io
import math
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from leakyrelu import _core
from leakyrelu.torch import PReLU, activation_memory, diagnose, parameter_groups, prelu

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*torch.jit")
    importlib.import_module("torch._decomp.decompositions_for_jvp")

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
BITS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


@pytest.fixture(autouse=True)
def _no_tensor_is_small(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.parametric._SMALL", 0)


@pytest.fixture(params=("native", "plain"))
def kernels(request, monkeypatch):
    """On the native kernels, and on what a device without them runs."""
    if request.param == "plain":
        monkeypatch.setattr("leakyrelu.torch.activations.parametric.NATIVE_DTYPES", {})
    return request.param


def assert_same_bits(ours, theirs):
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    ours, theirs = ours.detach(), theirs.detach()
    assert torch.equal(ours.isnan(), theirs.isnan())
    numbers = ~theirs.isnan()
    assert torch.equal(ours[numbers].view(BITS[ours.dtype]), theirs[numbers].view(BITS[ours.dtype]))


def slopes_like(kind, channels, dtype):
    generator = torch.Generator().manual_seed(4)
    w = torch.rand(channels, generator=generator, dtype=torch.float64) / 2 + 0.1
    if kind == "some negative":
        w[::2] *= -1
    elif kind == "some zero":
        w[channels // 2] = 0
    elif kind == "above 1":
        w += 1.5
    elif kind == "tiny":
        w *= torch.finfo(dtype).tiny
    return w.to(dtype)


def results(function, x, w, grad):
    x, w = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(), w.detach().clone().requires_grad_()
    y = function(x, w)
    return y, *torch.autograd.grad(y, (x, w), grad)


def slope_gradient(x, w, grad):
    """The sum in float64, by NumPy, and the sum of the magnitudes of its terms, which bounds what rounding does."""
    x, grad = x.double().numpy(), grad.double().numpy()
    terms = np.where(x > 0, 0, x * grad)
    axes = tuple(axis for axis in range(x.ndim) if w.numel() == 1 or axis != 1)
    return terms.sum(axes).reshape(w.shape), abs(terms).sum(axes).reshape(w.shape)


LAYOUTS = {
    "one axis": lambda: torch.randn(1003),
    "features": lambda: torch.randn(70, 37),
    "many features": lambda: torch.randn(9, 600),
    "sequence": lambda: torch.randn(5, 7, 131),
    "image": lambda: torch.randn(3, 7, 13, 11),
    "few positions": lambda: torch.randn(3, 70, 3, 2),
    "channels last": lambda: torch.randn(3, 7, 13, 11).to(memory_format=torch.channels_last),
    "many channels last": lambda: torch.randn(2, 300, 5, 4).to(memory_format=torch.channels_last),
    "channels last 3-D": lambda: torch.randn(2, 5, 4, 6, 3).to(memory_format=torch.channels_last_3d),
    "one channel": lambda: torch.randn(4, 1, 9, 9),
    "transposed": lambda: torch.randn(37, 70).t(),
    "with gaps": lambda: torch.randn(6, 10, 14)[:, ::2, 1:9],
    "expanded": lambda: torch.randn(6, 1, 5).expand(6, 4, 5),
    "long": lambda: torch.randn(2, 2, 40_001),
    "many long rows": lambda: torch.randn(20_001, 3),
}


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_layout(make, dtype, kernels):
    torch.manual_seed(0)
    x = make().to(dtype)
    grad = torch.randn(x.shape).to(dtype)
    for channels in {1, x.shape[1] if x.dim() > 1 else 1}:
        for kind in ("positive", "some negative", "some zero", "above 1", "tiny"):
            w = slopes_like(kind, channels, dtype)
            ours, theirs = results(prelu, x, w, grad), results(F.prelu, x, w, grad)
            assert_same_bits(ours[0], theirs[0])
            assert ours[0].stride() == theirs[0].stride()
            assert_same_bits(ours[1], theirs[1])
            exact, size = slope_gradient(x, w, grad)
            eps = torch.finfo(dtype).eps
            # Each term may be off by 1.5 eps, and the sum is rounded; operations of a 16-bit type round each term too.
            assert (abs(ours[2].double().numpy() - exact) <= 3 * eps * size + eps * abs(exact)).all()
            assert ours[2].dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [0.25, -0.3, 1.7, 0.0, -0.0, math.inf, math.nan])
def test_special_values_times_special_gradients(dtype, slope, kernels):
    info = torch.finfo(dtype)
    values = torch.tensor([0.0, 1.0, 3.0, info.tiny, info.eps, math.inf, math.nan, 1 / 3, info.max / 8], dtype=dtype)
    values = torch.cat([values, -values])
    x, grad = (t.reshape(-1) for t in torch.meshgrid(values, values, indexing="ij"))
    w = torch.tensor([slope], dtype=dtype)
    ours, theirs = results(prelu, x, w, grad), results(F.prelu, x, w, grad)
    assert_same_bits(ours[0], theirs[0])
    assert_same_bits(ours[1], theirs[1])
    # One slope an element, which shows the terms of the sum one by one: infinities and NaN where PyTorch has them.
    x, grad, w = x[None], grad[None], w.expand(x.numel())
    mine, expected = results(prelu, x, w, grad)[2], results(F.prelu, x, w, grad)[2]
    torch.testing.assert_close(mine, expected, rtol=4 * info.eps, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_all_sixteen_bit_values(dtype, kernels):
    x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    for slope in (0.25, -0.4, 0.0):
        w = torch.tensor([slope], dtype=dtype)
        ours, theirs = results(prelu, x, w, x.flip(0)), results(F.prelu, x, w, x.flip(0))
        assert_same_bits(ours[0], theirs[0])
        assert_same_bits(ours[1], theirs[1])


def test_at_zero_and_at_nan_the_slope_counts():
    x = torch.tensor([[0.0], [-0.0], [math.nan]], requires_grad=True)
    w = torch.tensor([0.25], requires_grad=True)
    gx, gw = torch.autograd.grad(prelu(x, w)[:2].sum(), (x, w))
    assert gx.flatten().tolist() == [0.25, 0.25, 0.0]
    assert math.isnan(gw.item())  # NaN * 0
    gx, gw = torch.autograd.grad(prelu(x[:2], w).sum(), (x, w))
    assert gw.item() == 0


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_recovered_input_is_as_exact_as_documented(dtype, smallest, kernels):
    """Twelve slopes, down to the smallest that is inverted, one element a channel: each term by itself."""
    info = torch.finfo(dtype)
    root = math.sqrt(info.tiny)
    w = ((1.001 * root) * torch.logspace(0, 4, 12) if smallest else torch.logspace(-3, 1, 12)).to(dtype)
    # Down to the subnormals of float16, and to the least input that is recovered in the other types.
    x = -torch.logspace(-7 if dtype is torch.float16 else math.log10(root), 1, 50, dtype=torch.float64)
    for row in x[:, None].expand(50, 12).to(dtype):
        _, _, gw = results(prelu, row[None], w, torch.ones(1, 12, dtype=dtype))
        spacing = torch.maximum(info.eps * abs(row.double()), torch.tensor(info.tiny * info.eps))
        assert (abs(gw.double() - row.double()) <= 1.5 * spacing).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_at_any_address(dtype, monkeypatch):
    """torch.frombuffer takes any offset, and hooks may hand back what was saved there; the kernels see neither."""

    class Core:
        @staticmethod
        def prelu_forward_at(*arguments):
            seen.extend(arguments[2:4])
            return _core.prelu_forward_at(*arguments)

        @staticmethod
        def prelu_backward_at(*arguments):
            seen.extend((arguments[2], arguments[3], arguments[5]))
            return _core.prelu_backward_at(*arguments)

    def anywhere(values):
        memory = bytearray(values.nbytes + 1)
        return torch.frombuffer(memory, dtype=dtype, offset=1, count=values.numel()).view(values.shape).copy_(values)

    seen = []
    monkeypatch.setattr("leakyrelu.torch.activations.parametric._core", Core)
    generator = torch.Generator().manual_seed(0)
    values, grad = (torch.randn(2, 3, 5000, generator=generator).to(dtype) for _ in range(2))
    results = []
    for slope in (0.25, 0.0):  # the output is kept, or the input
        for place in (anywhere, torch.clone):
            x, w = place(values).requires_grad_(), torch.full((3,), slope, dtype=dtype).requires_grad_()
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t, place=place: place(t) if t.shape == values.shape else t, lambda t: t
            ):
                y = prelu(x, w)
            y.backward(place(grad))
            results.append((y, x.grad, w.grad))
    for odd, near in zip(results[::2], results[1::2], strict=True):
        for one, other in zip(odd, near, strict=True):
            assert torch.equal(one, other)
    assert len(seen) == 4 * 5
    assert all(address % dtype.itemsize == 0 for address in seen)


# Memory


def kept(function):
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    assert result.grad_fn is not None
    own = storages.pop(result.untyped_storage().data_ptr(), None)
    return sum(storages.values()), own


@pytest.mark.parametrize(
    ("slope", "wanted", "beside", "output"),
    [
        (0.25, True, 4, True),  # the output, and a zero of one element
        (-0.25, True, 4 + 126, True),
        (0.0, True, 4004, False),  # the input
        (1e-35, True, 4004, False),
        (math.inf, True, 4004, False),
        (0.25, False, 126, False),  # signs
        (0.0, False, 126, False),
    ],
)
def test_what_is_kept(slope, wanted, beside, output, kernels):
    x = torch.randn(1001, requires_grad=True) * 1
    w = torch.tensor([slope], requires_grad=wanted)
    found, own = kept(lambda: prelu(x, w))
    assert found == beside + 4  # the slope itself
    assert own == (4004 if output else None)


def test_the_memory_test_sees_the_whole_input_of_pytorch():
    x, w = torch.randn(1001, requires_grad=True) * 1, torch.tensor([0.25], requires_grad=True)
    assert kept(lambda: F.prelu(x, w)) == (4004 + 4, None)


def test_a_network_keeps_less():
    def network(layer):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), layer(8), nn.Conv2d(8, 8, 3, padding=1), layer(8), nn.Tanh()
        )

    x = torch.randn(2, 1, 32, 32)
    theirs, ours = activation_memory(network(nn.PReLU), x).bytes, activation_memory(network(PReLU), x).bytes
    size = 2 * 8 * 32 * 32 * 4
    # Two inputs of the activations, the input of the second convolution, the output of the last layer. Ours keep their
    # outputs, of which the convolution keeps the first anyway.
    assert (theirs, ours) == (4 * size, 3 * size + 2 * 4)


def test_small_tensors_go_the_way_of_pytorch(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.parametric._SMALL", 1001)
    w = torch.tensor([0.25], requires_grad=True)
    assert "PreluKernel" in prelu(torch.randn(1000), w).grad_fn.name()
    assert "PreluKernel" not in prelu(torch.randn(1001), w).grad_fn.name()


def test_changing_the_kept_output_in_place_is_noticed():
    x, w = torch.randn(9, requires_grad=True), torch.tensor([0.25], requires_grad=True)
    y = prelu(x, w)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = prelu(x, w.detach())  # keeps signs, which nothing changes
    y.add_(1).sum().backward()
    assert torch.equal(x.grad, torch.where(x > 0, 1.0, 0.25))


def test_changing_the_slope_before_the_backward_pass_is_noticed():
    x, w = torch.randn(9, requires_grad=True), torch.tensor([0.25], requires_grad=True)
    y = prelu(x, w)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("wants", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("slope", [0.3, -0.3, 0.0])
def test_only_the_gradients_that_are_asked_for(wants, slope, kernels):
    x, w = torch.randn(6, 3), torch.full((3,), slope)
    x.requires_grad_(wants[0]), w.requires_grad_(wants[1])
    tensors = [t for t, wanted in zip((x, w), wants, strict=True) if wanted]
    grad = torch.randn(6, 3)
    ours, theirs = (torch.autograd.grad(f(x, w), tensors, grad) for f in (prelu, F.prelu))
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected)
    # The slope wanted a gradient, but this backward pass does not.
    if all(wants):
        assert torch.equal(torch.autograd.grad(prelu(x, w), x, grad)[0], theirs[0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sums_do_not_depend_on_the_threads(threads):
    before = torch.get_num_threads()
    x, w = (
        torch.randn(8, 5, 70_001, generator=torch.Generator().manual_seed(2)),
        slopes_like("some negative", 5, torch.float32),
    )
    found = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            found.append(results(prelu, x, w, x.flip(0)))
    finally:
        torch.set_num_threads(before)
    for one, several in zip(*found, strict=True):
        assert torch.equal(one, several)


# Derivatives


@pytest.mark.parametrize("slopes", [[0.25, 0.5, 2.0], [0.25, -0.5, 1.0], [0.25, 0.0, -0.5], [0.7]])
def test_derivatives_of_every_mode(slopes, kernels):
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(slopes, dtype=torch.float64, requires_grad=True)

    def function(x, w):
        return prelu(x * 1, w)

    torch.autograd.gradcheck(function, (x, w), check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(function, (x, w), check_fwd_over_rev=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(lambda x: function(x, w.detach()), x)
    torch.autograd.gradgradcheck(lambda w: function(x.detach(), w), w)


@pytest.mark.parametrize("slope", [1e-30, 1e-9, -1e-6, 0.0])
def test_second_derivatives_are_those_of_pytorch_also_at_small_slopes(slope):
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor([0.25, slope, 0.5], dtype=torch.float64, requires_grad=True)
    found = []
    for function in (prelu, F.prelu):
        first = torch.autograd.grad(
            function(x, w).square().sum() + function(x, w).sum() ** 3, (x, w), create_graph=True
        )
        found.append(torch.autograd.grad(sum(t.square().sum() for t in first), (x, w)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_transforms_are_pytorchs():
    x, w = torch.randn(5, 3), torch.tensor([0.25, -0.5, 0.0])
    grad, vmap, jacfwd = torch.func.grad, torch.func.vmap, torch.func.jacfwd
    for transform in (
        lambda f: grad(lambda a, b: f(a, b).square().sum(), (0, 1))(x, w),
        lambda f: vmap(grad(lambda a, b: f(a[None], b).square().sum(), (0, 1)), (0, None))(x, w),
        lambda f: jacfwd(f, (0, 1))(x, w),
    ):
        for ours, theirs in zip(transform(prelu), transform(F.prelu), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_checkpoint_and_hooks_on_saved_tensors():
    x, w = torch.randn(9, 3, requires_grad=True), torch.tensor([0.25, -0.5, 0.3], requires_grad=True)
    expected = torch.autograd.grad(F.prelu(x, w).square().sum(), (x, w))
    y = torch.utils.checkpoint.checkpoint(prelu, x, w, use_reentrant=False)
    checkpointed = torch.autograd.grad(y.square().sum(), (x, w))
    with torch.autograd.graph.save_on_cpu():
        y = prelu(x, w)
    hooked = torch.autograd.grad(y.square().sum(), (x, w))
    for found in (checkpointed, hooked):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_several_threads_at_once():
    x = torch.randn(64, 8, 100, generator=torch.Generator().manual_seed(1))
    w = slopes_like("some negative", 8, torch.float32)
    expected = results(prelu, x, w, x)
    found = {}

    def work(k):
        for _ in range(5):
            found[k] = results(prelu, x, w, x)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for k in range(6) for a, b in zip(found[k], expected, strict=True))


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)])
def test_autocast_casts_as_for_pytorch(dtypes):
    x, w = torch.randn(40, 3, dtype=dtypes[0], requires_grad=True), torch.full((3,), 0.25, dtype=dtypes[1])
    w.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = prelu(x, w), F.prelu(x, w)
    assert "_PReLU" in y.grad_fn.name()
    assert_same_bits(y, expected)
    ours, theirs = (torch.autograd.grad(t.float().sum(), (x, w)) for t in (y, expected))
    assert_same_bits(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=2e-2, atol=2e-2)


MISUSE = {
    "no dimension, several slopes": (lambda: torch.randn(()), lambda: torch.ones(3)),
    "channels": (lambda: torch.randn(4, 2), lambda: torch.ones(3)),
    "one axis": (lambda: torch.randn(3), lambda: torch.ones(3)),
    "slopes of two axes": (lambda: torch.randn(4, 3), lambda: torch.ones(1, 3)),
    "integers": (lambda: torch.arange(6).reshape(2, 3), lambda: torch.ones(3)),
    "other dtype": (lambda: torch.randn(4, 3), lambda: torch.ones(3).double()),
    "other device": (lambda: torch.randn(4, 3), lambda: torch.ones(3, device="meta")),
    "list": (lambda: [1.0], lambda: torch.ones(1)),
    "number": (lambda: torch.randn(4, 3), lambda: 0.25),
    "none": (lambda: None, lambda: torch.ones(1)),
}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("x", "w"), MISUSE.values(), ids=MISUSE.keys())
def test_misuse_raises_what_pytorch_raises(x, w, autocast):
    x, w = x(), w()
    if isinstance(w, torch.Tensor):
        w.requires_grad_()
    texts = []
    for function in (prelu, F.prelu):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            try:
                texts.append(function(x, w).dtype)
            except (RuntimeError, TypeError, NotImplementedError) as error:
                texts.append((type(error), str(error)))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 3), (3, 0), (1, 0, 3), (2, 3, 0)])
def test_shapes_of_few_or_no_elements(shape):
    x = torch.randn(shape)
    w = torch.full((shape[1] if len(shape) > 1 else 1,), 0.25)
    grad = torch.randn(shape)
    for ours, theirs in zip(results(prelu, x, w, grad), results(F.prelu, x, w, grad), strict=True):
        torch.testing.assert_close(ours, theirs)


# The layer


def test_is_an_instance_of_the_layer_of_pytorch():
    for arguments in ((), (3,), (3, 0.1), (2, 0.5, "cpu", torch.float64)):
        ours, theirs = PReLU(*arguments), nn.PReLU(*arguments)
        assert isinstance(ours, nn.PReLU)
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"]
        assert torch.equal(ours.weight, theirs.weight)
        assert ours.weight.dtype == theirs.weight.dtype
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_copies_compute_the_same(way):
    model = nn.Sequential(nn.Linear(3, 4), PReLU(4, 0.3))
    if way == "copy":
        twin = copy.deepcopy(model)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    x = torch.randn(5, 3)
    assert repr(twin) == repr(model)
    assert torch.equal(twin(x), model(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_compiled_scripted_traced_and_exported():
    model = nn.Sequential(nn.Linear(3, 4), PReLU(4, -0.3))
    x = torch.randn(5, 3)
    expected = model(x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    compiled(x).sum().backward()
    found = model[1].weight.grad.clone()
    model.zero_grad()
    model(x).sum().backward()
    torch.testing.assert_close(found, model[1].weight.grad)
    assert torch.equal(torch.jit.script(model)(x), expected)
    assert torch.equal(torch.jit.trace(model, (x,))(x), expected)
    assert torch.equal(torch.export.export(model, (x,)).module()(x), expected)


def test_a_network_trains_to_the_same_weights():
    def train(layer):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), layer(4), nn.Flatten(), nn.Linear(144, 3), layer()).double()
        x, target = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8) % 3
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(model(x), target).backward()
            optimizer.step()
        return model

    ours, theirs = train(PReLU), train(nn.PReLU)
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)
    assert (ours[1].weight - 0.25).abs().min() > 1e-4


def test_diagnosis_sees_the_layer_and_the_function():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = PReLU(3, 0.3)

        def forward(self, x):
            return prelu(self.layer(x) - 0.1, self.layer.weight)

    x = torch.randn(50, 3)
    report = diagnose(Model(), [x])
    assert [layer.units for layer in report.layers] == [3, 3]
    assert report.layers[0].positive_share == pytest.approx((x > 0).float().mean(0).numpy())
    second = (F.prelu(x, torch.tensor(0.3)) - 0.1 > 0).float().mean(0).numpy()
    assert report.layers[1].positive_share == pytest.approx(second)


# Parameter groups


def test_weight_decay_leaves_the_slopes_alone():
    torch.manual_seed(0)
    shared = nn.PReLU(4)
    model = nn.Sequential(nn.Linear(3, 4), shared, nn.Linear(4, 4), shared, PReLU(4, 0.5), nn.BatchNorm1d(4))
    groups = parameter_groups(model, weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    slopes = groups[1]["params"]
    assert [id(p) for p in slopes] == [id(shared.weight), id(model[4].weight)]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(groups, lr=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # With zero gradients only the decay moves anything: AdamW multiplies by 1 - lr * decay.
    for name, parameter in model.named_parameters():
        factor = 1.0 if any(parameter is slope for slope in slopes) else 0.95
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_parameter_groups_of_models_with_one_kind_of_parameters():
    for model in (nn.Linear(2, 2), nn.PReLU()):
        groups = parameter_groups(model, 0.1)
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        torch.optim.SGD(groups, lr=0.1)


def test_parameter_groups_refuse_what_is_none():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not list: \[\]"):
        parameter_groups([], 0.1)
    for bad in (None, "0.1", True):
        with pytest.raises(TypeError, match=f"weight_decay must be a number, not {type(bad).__name__}: "):
            parameter_groups(nn.Linear(1, 1), bad)
