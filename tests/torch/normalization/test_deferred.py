"""A normalization that waits for what takes its output: what it computes for a Leaky ReLU, and for anything else."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from leakyrelu.torch import activation_memory, leaky_relu
from leakyrelu.torch.normalization.deferred import DeferredNorm, PendingOutput


def data(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


NORMS = {
    "batch": lambda: nn.BatchNorm2d(4),
    "batch, no statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "batch, cumulative": lambda: nn.BatchNorm2d(4, momentum=None),
    "instance": lambda: nn.InstanceNorm2d(4, affine=True),
    "instance, tracked": lambda: nn.InstanceNorm2d(4, track_running_stats=True),
    "group": lambda: nn.GroupNorm(2, 4),
}
# What may take the output, and what it gives.
TAKERS = {
    "module": nn.LeakyReLU(0.2),
    "in place": nn.LeakyReLU(0.2, inplace=True),
    "function": lambda v: F.leaky_relu(v, 0.2),
    "function in place": lambda v: F.leaky_relu(v, 0.2, inplace=True),
    "function with an underscore": lambda v: F.leaky_relu_(v, 0.2),
    "by keyword": lambda v: F.leaky_relu(input=v, negative_slope=0.2),
    "default slope": F.leaky_relu,
    "ours": lambda v: leaky_relu(v, 0.2),
    "behind an identity": lambda v: F.leaky_relu(nn.Identity()(v), 0.2),
    "behind a dropout of 0": lambda v: F.leaky_relu(nn.Dropout(0.0)(v), 0.2),
    "flattened": lambda v: F.leaky_relu(v.flatten(1), 0.2),
    "there and back": lambda v: F.leaky_relu(v.reshape(2, -1).view(v.shape), 0.2),
    "moved": lambda v: F.leaky_relu(v.permute(0, 2, 3, 1), 0.2),
}
OTHERS = {
    "slope 0": lambda v: F.leaky_relu(v, 0.0),
    "negative slope": lambda v: F.leaky_relu(v, -0.5),
    "relu": F.relu,
    "elu": F.elu,
    "sum": lambda v: v + 1,
    "sum from the right": lambda v: 1 + v,
    "method": lambda v: v.sum(1),
    "changed in place": lambda v: v.mul_(2),
    "changed by an operator": lambda v: v.__iadd__(1),
    "a view of it changed": lambda v: v.view(2, -1).mul_(2),
    "concatenated": lambda v: torch.cat([v, v], 1),
    "part": lambda v: v[:, 1:],
    "twice": lambda v: F.leaky_relu(v, 0.2) + v,
    "twice, the other way round": lambda v: v.sin() + F.leaky_relu(v, 0.2),
    "two slopes": lambda v: F.leaky_relu(v, 0.2) * F.leaky_relu(v, 0.3),
    "two views": lambda v: F.leaky_relu(v.flatten(1), 0.2).sum() + v.permute(0, 2, 3, 1),
    "conv": lambda v: F.conv2d(v, torch.ones(3, 4, 1, 1, dtype=v.dtype)),
    "maximum": lambda v: torch.maximum(v, 0.1 * v),
    "detached": lambda v: v.detach() + v,
    "no gradient": lambda v: v.requires_grad * v,
    "pickled": lambda v: pickle.loads(pickle.dumps(v.detach())) + v,
    "iterated": lambda v: torch.stack([*v]),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("taker", [*TAKERS, *OTHERS])
@pytest.mark.parametrize("norm", NORMS)
def test_values_gradients_and_statistics_are_those_of_the_pair(norm, taker, training):
    function = (TAKERS | OTHERS)[taker]
    layer = NORMS[norm]().double().train(training)
    if layer.weight is not None:
        with torch.no_grad():
            layer.weight.uniform_(0.5, 1.5), layer.bias.uniform_(-1.0, 1.0)
    deferred = DeferredNorm(twin := copy.deepcopy(layer))
    x = data(2, 4, 3, 5)
    y, expected = function(deferred(x)), function(layer(x))
    assert type(y) is torch.Tensor
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    parameters, others = list(twin.parameters()), list(layer.parameters())
    found = torch.autograd.grad(y.sin().sum(), [x, *parameters])
    torch.testing.assert_close(found, torch.autograd.grad(expected.sin().sum(), [x, *others]), rtol=1e-8, atol=1e-10)
    for mine, its in zip(twin.buffers(), layer.buffers(), strict=True):
        torch.testing.assert_close(mine, its)


def test_only_the_output_is_kept_for_a_leaky_relu_and_more_for_anything_else():
    class Net(nn.Module):
        def __init__(self, function, norm):
            super().__init__()
            self.first, self.norm, self.function = nn.Conv2d(1, 8, 1), norm(nn.BatchNorm2d(8)), function
            self.last = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.last(self.function(self.norm(self.first(x))))

    x = torch.randn(2, 1, 64, 64)
    size = 2 * 8 * 64 * 64 * 4
    kept = {
        name: activation_memory(Net(TAKERS[name], DeferredNorm), x).bytes // size
        for name in ("module", "in place", "function", "behind a dropout of 0", "there and back")
    }
    assert set(kept.values()) == {1}
    assert activation_memory(Net(TAKERS["in place"], nn.Sequential), x).bytes // size == 2
    assert activation_memory(Net(torch.tanh, DeferredNorm), x).bytes // size == 2


def test_what_can_be_said_of_the_output_does_not_compute_it():
    layer = DeferredNorm(nn.BatchNorm2d(4))
    v = layer(torch.randn(2, 4, 3, 5))
    assert type(v) is PendingOutput
    assert (v.shape, v.ndim, v.dtype, v.device.type) == ((2, 4, 3, 5), 4, torch.float32, "cpu")
    assert (v.size(1), v.dim(), v.numel(), v.is_floating_point()) == (4, 4, 120, True)
    assert int(layer.num_batches_tracked) == 0
    assert repr(v).startswith("tensor([[[[")
    assert int(layer.num_batches_tracked) == 1


def test_an_operator_that_pytorch_does_not_show_is_refused():
    v = DeferredNorm(nn.BatchNorm1d(4))(torch.randn(3, 4))
    with torch._C.DisableTorchFunctionSubclass(), pytest.raises(RuntimeError, match=r"call restore\(model\)"):
        torch.sin(v)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["leaky", "add", "sin", "view"]), min_size=1, max_size=4), st.booleans())
def test_any_order_of_uses(uses, training):
    layer = nn.BatchNorm1d(3).double().train(training)
    deferred = DeferredNorm(copy.deepcopy(layer))

    def run(v):
        steps = {
            "leaky": lambda: F.leaky_relu(v, 0.1),
            "add": lambda: v + 1,
            "sin": lambda: v.sin(),
            "view": lambda: F.leaky_relu(v.reshape(3, -1), 0.1).reshape(v.shape),
        }
        return sum(steps[use]() * (k + 1) for k, use in enumerate(uses))

    x = data(5, 3)
    torch.testing.assert_close(run(deferred(x)), run(layer(x)))
    assert int(deferred.num_batches_tracked) == int(layer.num_batches_tracked)


def test_copies_pickles_and_state():
    layer = DeferredNorm(nn.BatchNorm1d(3))
    keys = list(nn.BatchNorm1d(3).state_dict())
    for each in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert list(each.state_dict()) == keys
        each.load_state_dict(nn.BatchNorm1d(3).state_dict())
        torch.testing.assert_close(F.leaky_relu(each(x := torch.randn(4, 3))), F.leaky_relu(layer(x)))
    assert repr(layer).startswith("DeferredNorm(BatchNorm1d(3")


def test_a_compiled_network_calls_the_pair():
    layer = DeferredNorm(nn.BatchNorm1d(3)).eval()
    compiled = torch.compile(lambda x: F.leaky_relu(layer(x), 0.1), backend="eager", fullgraph=False)
    x = torch.randn(4, 3)
    torch.testing.assert_close(compiled(x), F.leaky_relu(layer.norm(x), 0.1))
