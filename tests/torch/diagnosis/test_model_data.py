"""What `diagnose` reports of the data that went in: values that are not finite, and where NaN first shows inside."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.diagnosis.report import Report
from leakyrelu.torch import diagnose, watch
from leakyrelu.torch.diagnosis import batch_checks

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.act = nn.Linear(3, 4), nn.ReLU()

    def forward(self, x, mask=0.0, scale=1.0):
        return self.act(self.linear(x) * scale + mask)


def flawed() -> torch.Tensor:
    x = torch.randn(20, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    x[7, 2, 0, 4] = float("nan")
    x[7, 2, 1, 0] = float("-inf")
    x[16] = float("inf")
    return x


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model_device", DEVICES)
@pytest.mark.parametrize("size", [1, 3, 20])
def test_values_that_are_not_finite_are_located(device, model_device, size):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).to(model_device)
    report = diagnose(model, flawed().to(device).split(size))
    assert report.data == (InputCheck("", 20, 1, 76, 2, 7, (2, 0, 4)),)
    assert diagnose(model, torch.ones(20, 3, 5, 5).to(device).split(size)).data == (InputCheck("", 20),)


def test_each_keyword_argument_is_an_input():
    x, mask = torch.ones(6, 3), torch.zeros(6, 4)
    mask[1, 2] = -torch.inf
    x[4, 0] = torch.nan
    batches = [{"x": a, "mask": b, "scale": 2.0} for a, b in zip(x.split(4), mask.split(4), strict=True)]
    for data in ({"x": x, "mask": mask, "scale": 2.0}, batches):
        checks = diagnose(TwoInputs(), data).data
        assert checks == (InputCheck("x", 6, 1, 0, 1, 4, (0,)), InputCheck("mask", 6, 0, 1, 1, 1, (2,)))


def test_an_activation_that_writes_in_place_does_not_hide_the_data():
    x = torch.tensor([[-torch.inf, 1.0]])
    assert diagnose(nn.ReLU(inplace=True), [x]).data == (InputCheck("", 1, 0, 1, 1, 0, (0,)),)
    assert x.tolist() == [[0.0, 1.0]]


def test_halves_of_the_data_add_up():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    whole, (first, second) = diagnose(model, flawed()), flawed().split([5, 15])
    assert (diagnose(model, first) + diagnose(model, second)).data == whole.data
    with watch(model) as census:
        model(flawed())
    assert census.report().data == ()  # a watch sees no data, only what reaches the activations


def test_the_first_layer_with_nan_is_found_though_the_data_are_finite():
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(3, 3), nn.ReLU())))
    broken = copy.deepcopy(model)
    broken[4].weight.data[1, 1] = torch.nan
    for net, first in ((model, None), (broken, "5")):
        report = diagnose(net, torch.ones(4, 3))
        assert report.data[0].is_finite
        assert (report.first_nan_layer and report.first_nan_layer.name) == first
    assert [layer.name for layer in report if len(layer.nan_units)] == ["5", "7"]


def test_data_of_nan_alone_make_a_report_that_says_so():
    report = diagnose(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.full((5, 3), torch.nan))
    assert report.data == (InputCheck("", 5, 15, 0, 5, 0, (0,)),)
    assert repr(report).startswith("1 layer, 4 units: all inputs NaN")


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ([torch.ones(4, 3), torch.ones(2, 5)], "batch 1 of the data: (2, 5) torch.float32."),
        ([(torch.ones(2, 3).double(), 1)], "batch 0 of the data: (2, 3) torch.float64."),
        ({"x": torch.ones(4, 5), "mask": None}, "batch 0 of the data: x (4, 5) torch.float32, mask NoneType."),
        ([{"wrong\x1b": torch.ones(4, 3)}], "batch 0 of the data: wrong\\x1b (4, 3) torch.float32."),
    ],
)
def test_an_error_of_the_model_says_at_which_batch(data, note):
    with pytest.raises((RuntimeError, TypeError)) as caught:
        diagnose(TwoInputs(), data)
    assert caught.value.__notes__ == [f"The model was run on {note}"]


def test_values_beyond_float64_warn_of_nothing():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)).double() * 1e200
    x[:, 2] = torch.finfo(torch.float64).max
    for report in (diagnose(nn.ReLU(), x.split(7)), diagnose(nn.LeakyReLU(0.5), x) + diagnose(nn.LeakyReLU(0.5), x)):
        assert report.data[0].is_finite
        assert report.layers[0].positive_share[2] == 1
        assert repr(report)
        assert Report.from_json(report.to_json()).silent == report.silent == 0


def test_the_counts_on_other_devices_are_those_of_the_cpu(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    whole = diagnose(model, flawed()).data
    monkeypatch.setattr(batch_checks, "_is_finite", lambda x: False)  # other devices count every batch
    for size in (1, 3, 20):
        assert diagnose(model, flawed().split(size)).data == whole
        assert diagnose(model, torch.ones(20, 3, 5, 5).split(size)).data == (InputCheck("", 20),)
