"""save_memory and restore: the pairs that are joined, and that no function changes."""

import copy

import numpy as np
import pytest
import torch
from support.memory_networks import UNet, losses
from torch import nn

from leakyrelu.torch import LeakyReLU, NormLeakyReLU, restore, save_memory


class Custom(nn.Module):
    """Calls its layers in an order that is not the one they are listed in."""

    def __init__(self):
        super().__init__()
        self.act = nn.LeakyReLU(0.2)
        self.bn = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(self.act(self.bn(x))) + x


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.3), nn.GroupNorm(2, 4))
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x):
        y = self.body(x)
        if y.mean() > 1e9:
            return y
        return self.act(self.bn(y))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_a_unet_trains_to_the_same_losses(dtype, tolerance):
    torch.manual_seed(0)
    model = UNet().to(dtype)
    twin = copy.deepcopy(model)
    keys = list(model.state_dict())
    report = save_memory(model)
    assert report.joined == tuple((f"{block}.norm", f"{block}.nonlin") for block in ("down.0", "down.1", "join"))
    assert (report.swapped, report.left) == ((), ())
    assert type(model.join.norm) is NormLeakyReLU
    assert model.join.all_modules[1] is model.join.norm
    assert model.join.all_modules[2] is model.join.nonlin
    assert list(model.state_dict()) == keys
    np.testing.assert_allclose(
        losses(model, (2, 1, 8, 8), dtype=dtype), losses(twin, (2, 1, 8, 8), dtype=dtype), rtol=tolerance
    )
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[key], rtol=100 * tolerance, atol=100 * tolerance)


def test_restore_puts_the_very_same_modules_back():
    model = nn.ModuleDict({"unet": UNet(), "custom": Custom(), "lone": nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU())})
    before = dict(model.named_modules(remove_duplicate=False))
    save_memory(model)
    after = dict(model.named_modules(remove_duplicate=False))
    # A dictionary does not say how its modules are called: their normalizations wait for what takes their outputs.
    assert [name for name in before if before[name] is not after[name]] == [
        name
        for name, module in before.items()
        if isinstance(module, nn.InstanceNorm2d | nn.BatchNorm2d) or name == "lone.1"
    ]
    model.eval()
    assert restore(model) == 5
    again = dict(model.named_modules(remove_duplicate=False))
    assert all(again[name] is module for name, module in before.items())
    assert not any(module.training for module in model.modules())
    assert restore(model) == 0


def test_copies_can_be_restored_and_trained_weights_stay():
    model = UNet()
    save_memory(model)
    losses(model, (2, 1, 8, 8), 2, torch.float32)
    twin = copy.deepcopy(model)
    x = torch.randn(2, 1, 8, 8)
    expected = model(x)
    restore(twin)
    assert not any(isinstance(module, NormLeakyReLU) for module in twin.modules())
    torch.testing.assert_close(twin(x), expected)


def test_checkpoints_load_both_ways():
    torch.manual_seed(0)
    model, twin = UNet().eval(), UNet().eval()
    save_memory(twin)
    x = torch.randn(2, 1, 8, 8)
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin(x), model(x))
    fresh = UNet().eval()
    fresh.load_state_dict(twin.state_dict())
    torch.testing.assert_close(fresh(x), model(x))


def test_order_of_calls_and_not_of_listing_decides():
    model = nn.Sequential(Custom())
    x = torch.randn(2, 4, 3, 3)
    expected = copy.deepcopy(model)(x)
    assert save_memory(model).joined == (("0.bn", "0.act"),)
    torch.testing.assert_close(model(x), expected)


def test_what_cannot_be_traced_is_rewritten_by_structure_where_that_is_sure():
    model = Untraceable()
    x = torch.randn(2, 4, 3, 3)
    expected = copy.deepcopy(model)(x)
    report = save_memory(model)
    assert report.joined == (("body.1", "body.2"),)
    assert report.swapped == ("act",)
    assert [name for name, _ in report.left] == ["body.3", "bn"]
    assert report.left[0][1].startswith("its output leaves")
    assert "the forward method of Untraceable cannot be traced: " in report.left[1][1]
    torch.testing.assert_close(model(x), expected)


def test_lone_activations_are_swapped_and_shared_ones_stay_shared():
    act = nn.LeakyReLU(-0.5).eval()
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), act), "b": act, "ours": LeakyReLU(0.2)})
    ours = model["ours"]
    report = save_memory(model)
    assert report.swapped == ("a.1",)
    assert model["b"] is model["a"][1]
    assert (type(model["b"]), model["b"].negative_slope, model["b"].inplace) == (LeakyReLU, -0.5, False)
    assert not model["b"].training
    assert model["ours"] is ours


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.last = None
        self.act = nn.LeakyReLU()

    def forward(self, x):
        self.calls += 1
        self.last = x
        return self.act(x)


def test_tracing_leaves_nothing_behind():
    model = Counting().eval()
    save_memory(model)
    assert (model.calls, model.last, model.training, model.act.training) == (0, None, False, False)


def test_a_hook_on_a_container_sees_what_it_saw():
    class Staged(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LeakyReLU(), nn.BatchNorm1d(4))
            self.act = nn.LeakyReLU()

        def forward(self, x):
            return self.act(self.stage(x))

    model, seen = Staged(), []
    model.stage.register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
    x = torch.randn(50, 3)
    model(x)
    report = save_memory(model)
    assert report.joined == (("stage.1", "stage.2"),)
    assert report.left[0][0] == "stage.3"
    model(x)
    assert len(seen) == 2  # the tracing was no call
    assert torch.allclose(*seen, rtol=1e-4, atol=1e-4)


def test_report_reads_as_words():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU(), nn.LeakyReLU(), nn.BatchNorm1d(4))
    assert repr(save_memory(model)) == (
        "1 pair joined, 1 Leaky ReLU swapped, 1 left\n"
        "  joined  1 + 2\n"
        "  swapped 3\n"
        "  left    4: its output leaves the part of the model that could be traced, or is the model's own"
    )
    assert repr(model[2]) == "Absorbed(LeakyReLU(negative_slope=0.01))"


def test_the_model_itself_and_no_model():
    assert save_memory(nn.LeakyReLU()).left == (("", "it is the model itself"),)
    assert repr(save_memory(nn.LeakyReLU())).endswith("left    (model): it is the model itself")
    for function in (save_memory, restore):
        with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not str: 'net'"):
            function("net")


def test_twice_is_once():
    model = UNet()
    save_memory(model)
    report = save_memory(model)
    assert (report.joined, report.swapped, report.left) == ((), (), ())
    assert restore(model) == 6
