"""The watch with the real TensorBoard and the real Lightning."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from leakyrelu.torch import watch

# What these packages, and what they are built on, say of their own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*pkg_resources"),
]


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.rglob("events.out*")
    found = EventAccumulator(str(file))
    found.Reload()
    return found


def test_tensorboard(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    torch.manual_seed(0)  # of eight random units, another than the two planted may be silent
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        model[0].bias[:2] = -50.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with SummaryWriter(str(tmp_path)) as writer, watch(model, every=2, to=writer) as census:
        for _ in range(5):
            model(torch.randn(50, 4)).sum().backward()
            optimizer.step()
    found = events(tmp_path)
    assert [(event.step, event.value) for event in found.Scalars("units/silent")] == [(0, 0.25), (2, 0.25), (4, 0.25)]
    assert [event.value for event in found.Scalars("silent/1")] == [0.25] * 3
    shares = census.history.reports[-1].layers[0].positive_share
    histogram = found.Histograms("positive share/1")[-1].histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (8, 0.0, shares.max())
    np.testing.assert_allclose(histogram.sum, shares.sum())


def test_lightning(tmp_path):
    import pytorch_lightning
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

    from leakyrelu.torch.lightning import watch_callback

    class Module(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.act, self.two = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)
            with torch.no_grad():
                self.one.bias[:3] = -50.0

        def forward(self, x):
            return self.two(self.act(self.one(x)))

        def training_step(self, batch, index):
            return F.mse_loss(self(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("val", F.mse_loss(self(batch[0]), batch[1]))
            if self.fails:
                raise OSError("the disk is full")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(64, 4), torch.randn(64, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    options = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options |= {"accelerator": "cpu", "num_sanity_val_steps": 0, "log_every_n_steps": 1, "default_root_dir": tmp_path}
    for fails in (False, True):
        callback, module = watch_callback(every=3), Module()
        module.fails = fails
        loggers = [CSVLogger(tmp_path / str(fails)), TensorBoardLogger(tmp_path / str(fails))]
        trainer = pytorch_lightning.Trainer(max_epochs=2, callbacks=[callback], logger=loggers, **options)
        if fails:
            with pytest.raises(OSError, match="the disk is full"):
                trainer.fit(module, loader, loader)
        else:
            trainer.fit(module, loader, loader)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
        steps = [0, 3, 6] if fails else [0, 3, 6, 9, 12, 15]
        assert list(callback.census.history.steps) == steps
        assert callback.census.history["act"].silent_units.tolist() == [0, 1, 2]
        assert callback.census.report()["act"].samples == 8 * len(steps)  # validation is not counted
    (file,) = (tmp_path / "False").rglob("metrics.csv")
    with file.open() as lines:
        logged = [(int(row["step"]), row["silent/act"]) for row in csv.DictReader(lines) if row["silent/act"]]
    assert logged == [(step, "0.375") for step in (0, 3, 6, 9, 12, 15)]
    assert [event.value for event in events(tmp_path / "False").Scalars("silent/act")] == [0.375] * 6
