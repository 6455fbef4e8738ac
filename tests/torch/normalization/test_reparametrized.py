"""Layers that are joined and then pruned or parametrized: what they compute in every way they can run."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.norm_layers import SHAPES, data, make
from torch import nn
from torch.nn.utils import parametrize, prune

from leakyrelu.torch import NormLeakyReLU, restore, save_memory
from leakyrelu.torch.normalization.deferred import DeferredNorm

SLOPE = 0.25


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight):
        return 2 * weight


def pruned(module):
    prune.l1_unstructured(module, "weight", 0.5)


def parametrized(module):
    parametrize.register_parametrization(module, "weight", Doubled())


UNDO = {pruned: prune.remove, parametrized: parametrize.remove_parametrizations}


def activated(layer, x):
    y = layer(x)
    return F.leaky_relu(y, SLOPE) if isinstance(layer, DeferredNorm) else y


@pytest.fixture(params=["NormLeakyReLU", "DeferredNorm"])
def layer(request):
    norm = make("batch", 2, "ordinary")
    return NormLeakyReLU(norm, SLOPE) if request.param == "NormLeakyReLU" else DeferredNorm(norm)


def expected(layer, change, x):
    norm = copy.deepcopy(layer.norm)
    change(norm)
    return F.leaky_relu(norm(x), SLOPE), norm


@pytest.mark.parametrize("change", [pruned, parametrized])
def test_a_changed_layer_runs_joined_and_as_the_pair(layer, change):
    x = data(SHAPES[2], torch.float32)
    y, norm = expected(layer, change, x)
    change(layer)
    got = activated(layer, x)
    torch.testing.assert_close(got, y)
    got.sum().backward()
    assert [p.grad is not None for p in layer.parameters()] == [True, True]

    layer.eval(), norm.eval()
    with torch.autograd.forward_ad.dual_level():  # where the pair runs
        torch.testing.assert_close(activated(layer, x), F.leaky_relu(norm(x), SLOPE))
    UNDO[change](layer, "weight"), UNDO[change](norm, "weight")
    torch.testing.assert_close(activated(layer, x), F.leaky_relu(norm(x), SLOPE))
    torch.testing.assert_close(layer.norm(x), norm(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at that of every tensor it finds
@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("change", [pruned, parametrized])
def test_other_layers_of_pytorch_see_the_changed_pair(layer, change):
    x = data(SHAPES[2], torch.float32)
    layer.eval()
    y, _ = expected(layer, change, x)
    change(layer)
    torch.testing.assert_close(torch.func.jvp(lambda x: activated(layer, x), (x,), (x,))[0], y)
    torch.testing.assert_close(torch.compile(lambda x: activated(layer, x), backend="eager")(x), y)
    with torch.no_grad():
        torch.testing.assert_close(activated(layer, x), y)
    layer.reset_parameters()


@pytest.mark.parametrize("change", [pruned, parametrized])
def test_checkpoints_of_a_changed_layer(layer, change):
    x = data(SHAPES[2], torch.float32)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight.mul_(3)
    change(layer), change(twin)
    assert str(twin.load_state_dict(layer.state_dict())) == "<All keys matched successfully>"
    torch.testing.assert_close(activated(twin, x), activated(layer, x))
    state = layer.state_dict()
    state["mistaken"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "mistaken"'):
        twin.load_state_dict(state)


def test_a_pruned_normalization_inside_runs_as_the_pair(layer):
    x = data(SHAPES[2], torch.float32)
    y, _ = expected(layer, pruned, x)
    pruned(layer.norm)
    torch.testing.assert_close(activated(layer, x), y)
    activated(layer, x).sum().backward()
    assert [p.grad is not None for p in layer.parameters()] == [True, True]


def test_a_parametrized_normalization_inside_is_refused(layer):
    parametrized(layer.norm)
    with pytest.raises(
        RuntimeError, match=r"BatchNorm2d inside this \w+ is parametrized.*parametrize the layer itself"
    ):
        layer(data(SHAPES[2], torch.float32))


@pytest.mark.parametrize("change", [pruned, parametrized])
def test_the_normalization_is_handed_out_once_the_change_is_permanent(change):
    model = nn.Sequential(nn.Conv2d(2, 6, 3), make("batch", 2, "ordinary"), nn.LeakyReLU(SLOPE))
    save_memory(model)
    layer = model[1]
    change(layer)
    for call in (lambda: layer.norm, lambda: restore(model)):
        with pytest.raises(RuntimeError, match=r"this \w+ computes its weight by pruning .* make that permanent"):
            call()
    assert model[1] is layer
    UNDO[change](layer, "weight")
    weight = layer.weight
    restore(model)
    assert type(model[1]) is nn.BatchNorm2d
    assert model[1].weight is weight
    model(torch.randn(2, 2, 6, 6)).sum().backward()
