"""NormLeakyReLU as a module: parameters, checkpoints, copies, settings, and what it leaves to the pair."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from support.norm_layers import SHAPES, make
from torch import nn

from leakyrelu.torch import NormLeakyReLU


def test_parameters_and_buffers_are_shared_with_the_norm():
    norm = nn.BatchNorm2d(6)
    layer = NormLeakyReLU(norm, 0.1)
    assert layer.weight is norm.weight
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert list(layer.state_dict()) == list(norm.state_dict())
    layer.double()
    assert norm.weight.dtype == norm.running_mean.dtype == torch.float64
    layer.weight = nn.Parameter(torch.full((6,), 3.0))
    assert norm.weight is layer.weight
    assert list(layer.children()) == []
    layer.eval()
    assert not layer.norm.training


def test_checkpoints_load_both_ways():
    pair = nn.Sequential(nn.Conv2d(3, 6, 3), make("batch", 2, "ordinary"), nn.LeakyReLU(0.1))
    ours = nn.Sequential(nn.Conv2d(3, 6, 3), NormLeakyReLU(nn.BatchNorm2d(6), 0.1), nn.Identity())
    x = torch.randn(2, 3, 8, 8)
    file = io.BytesIO()
    torch.save(pair.state_dict(), file)
    file.seek(0)
    assert str(ours.load_state_dict(torch.load(file))) == "<All keys matched successfully>"
    pair.eval(), ours.eval()
    torch.testing.assert_close(ours(x), pair(x))
    back = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.LeakyReLU(0.1)).eval()
    back.load_state_dict(ours.state_dict())
    torch.testing.assert_close(back(x), ours(x))


def test_checkpoints_without_the_batch_counter_load_as_pytorch_loads_them():
    state = nn.BatchNorm2d(6).state_dict()
    state.pop("num_batches_tracked")
    del state._metadata
    NormLeakyReLU(nn.BatchNorm2d(6), 0.1).load_state_dict(dict(state))
    assert nn.BatchNorm2d(6).state_dict()._metadata == NormLeakyReLU(nn.BatchNorm2d(6)).state_dict()._metadata


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_share_within_themselves(way):
    layer = NormLeakyReLU(make("batch", 2, "ordinary"), 0.1)
    twin = copy.deepcopy(layer) if way == "deepcopy" else pickle.loads(pickle.dumps(layer))
    assert twin.norm.weight is twin.weight
    assert twin.weight is not layer.weight
    x = torch.randn(SHAPES[2])
    assert torch.equal(twin(x), layer(x))
    assert torch.equal(twin.running_mean, layer.running_mean)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_other_layers_of_pytorch_see_the_pair():
    layer = NormLeakyReLU(make("batch", 2, "ordinary"), 0.1).eval()
    pair = nn.Sequential(layer.norm, nn.LeakyReLU(0.1))
    x, t = torch.randn(2, *SHAPES[2])
    torch.testing.assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x), pair(x))
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), pair(x))
    torch.testing.assert_close(torch.func.jvp(layer, (x,), (t,)), torch.func.jvp(pair, (x,), (t,)))
    torch.testing.assert_close(torch.jit.trace(layer, x)(x), pair(x))
    with torch.autograd.forward_ad.dual_level():
        y = layer(torch.autograd.forward_ad.make_dual(x, t))
        assert torch.autograd.forward_ad.unpack_dual(y).tangent is not None
    assert copy.deepcopy(layer).to("meta")(x.to("meta")).is_meta


def test_what_the_norm_refuses_is_refused_in_its_words():
    layer = NormLeakyReLU(nn.BatchNorm2d(6), 0.1)
    with pytest.raises(ValueError, match="expected 4D input"):
        layer(torch.randn(2, 6, 3))
    with pytest.raises(RuntimeError, match="running_mean should contain 5 elements"):
        layer(torch.randn(2, 5, 3, 3))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.randn(1, 6, 1, 1))
    assert layer(torch.randn(0, 6, 2, 2)).shape == (0, 6, 2, 2)


def test_instance_norm_takes_one_sample_without_its_batch_axis():
    norm = make("instance", 2, "ordinary")
    x = torch.randn(6, 4, 5)
    torch.testing.assert_close(NormLeakyReLU(norm, 0.1)(x), F.leaky_relu(norm(x), 0.1))


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(3), nn.LazyBatchNorm2d(), nn.Conv2d(1, 1, 1), type("Mine", (nn.BatchNorm2d,), {})(3)]
)
def test_other_layers_are_refused_by_name(norm):
    with pytest.raises(TypeError, match=rf"norm must be one of nn.BatchNorm1d, .*not {type(norm).__name__}"):
        NormLeakyReLU(norm, 0.1)


@pytest.mark.parametrize("slope", [0, -0.1, float("inf"), float("nan")])
def test_slopes_without_an_inverse_are_refused(slope):
    with pytest.raises(ValueError, match=r"negative_slope must be positive and finite, .*Keep the two layers apart"):
        NormLeakyReLU(nn.BatchNorm2d(3), slope)


@pytest.mark.parametrize("slope", ["0.1", None, True])
def test_slope_must_be_a_number(slope):
    with pytest.raises(TypeError, match="negative_slope must be a number, not"):
        NormLeakyReLU(nn.BatchNorm2d(3), slope)


def test_repr_names_both_layers():
    norm = nn.GroupNorm(2, 6)
    assert repr(NormLeakyReLU(norm, 0.1)) == f"NormLeakyReLU({norm!r}, negative_slope=0.1)"


@pytest.mark.parametrize(
    ("norm", "settings"),
    [
        (nn.BatchNorm2d(4), {"num_features", "eps", "momentum", "affine", "track_running_stats"}),
        (nn.InstanceNorm2d(4), {"num_features", "eps", "momentum", "affine", "track_running_stats"}),
        (nn.GroupNorm(2, 4), {"num_groups", "num_channels", "eps", "affine"}),
    ],
)
def test_the_settings_of_the_normalization_can_be_read_and_set(norm, settings):
    layer = NormLeakyReLU(norm, 0.1)
    for name in settings:
        assert getattr(layer, name) == getattr(norm, name)
    layer.eps = 0.5
    assert norm.eps == 0.5
    assert "eps" not in vars(layer)
    x = torch.randn(3, 4, 5, 5)
    expected = nn.functional.leaky_relu(norm.train()(x), 0.1)
    assert torch.allclose(layer.train()(x), expected, atol=1e-6)
    assert not hasattr(layer, "no_such_setting")
    twin = copy.deepcopy(layer)
    twin.eps = 0.25
    assert (norm.eps, twin.norm.eps) == (0.5, 0.25)


def test_a_momentum_that_is_set_on_the_layer_moves_its_statistics():
    layer, norm = NormLeakyReLU(nn.BatchNorm1d(2)), nn.BatchNorm1d(2, momentum=1.0)
    layer.momentum = 1.0
    x = torch.randn(50, 2) + 3.0
    layer(x)
    norm(x)
    assert torch.allclose(layer.running_mean, norm.running_mean)
