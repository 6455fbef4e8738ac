"""How each package reads a network: the same data, and what it says of each activation, in its own terms."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from leakyrelu.torch import diagnose
from leakyrelu.torch.diagnosis.model_report import NoRectifierError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from benchmarks.peers.networks import Place

    # By the name of a row of its report: the units that it names, or how many it counts (1 where it warns), or the
    # share of the units.
    Rows = Mapping[str, frozenset[int] | int | float]

OURS = "leakyrelu"
UNITS, COUNTS, SHARES = "which units", "how many units", "share of units"
POSITIONS, WARNINGS = "how many positions", "warning of a layer"


@dataclass(frozen=True)
class Reader:
    """A package that looks for dead units.

    Parameters
    ----------
    name
        As PyPI has it.
    reports
        What it says of an activation: `UNITS`, `COUNTS`, `SHARES`, `POSITIONS` or `WARNINGS`.
    rows
        Names, in the order of preference, of the row that speaks of a place.
    read
        Runs the network over the data and returns the rows of its report.
    activations_only
        Whether every row is an activation, so that one that stands for no known place is an error.
    """

    name: str
    reports: str
    rows: Callable[[Place], Sequence[str]]
    read: Callable[[nn.Module, list[Tensor]], Rows]
    activations_only: bool = False

    @property
    def version(self) -> str:
        """The installed version; empty where there is none."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return ""


def forward(model: nn.Module, batches: list[Tensor]) -> None:
    """Run the plain forward pass over all batches."""
    with torch.no_grad():
        for batch in batches:
            model(batch)


def _activation(place: Place) -> Sequence[str]:
    return [place.activation]


# This package: a row for each place ---------------------------------------------------------------------------------


def place_rows(names: Sequence[str]) -> list[str]:
    """Name rows by activation and number of the call, ``"act"``, ``"act, call 2"``, in the order of a report."""
    found: list[str] = []
    calls: dict[str, int] = {}
    for name in names:
        base = re.match(r"[\w.]+(\(\))?", name)
        activation = base[0] if base else name
        calls[activation] = calls.get(activation, 0) + 1
        found.append(_call(activation, calls[activation]))
    return found


def _call(activation: str, call: int) -> str:
    return activation if call == 1 else f"{activation}, call {call}"


def _ours(model: nn.Module, batches: list[Tensor]) -> Rows:
    try:
        layers = diagnose(model, batches).layers
    except NoRectifierError:
        return {}
    names = place_rows([layer.name for layer in layers])
    return {name: frozenset(layer.silent_units.tolist()) for name, layer in zip(names, layers, strict=True)}


# Packages that name units -------------------------------------------------------------------------------------------


def _nansense(model: nn.Module, batches: list[Tensor]) -> Rows:
    import nansense
    from nansense.watch import dead_channel_indices

    session = nansense.start(model)
    session.set_watch_performance(channel_limit_enabled=False)  # by default it looks at 16 channels
    session.set_stats_scope("all")
    session.detach()
    for batch in session.batches(batches, phase="data", epoch=0):
        with torch.no_grad():
            model(batch)
    stats = session.watch_snapshot(include_patches=False).stats
    channels = {layer: found.activations.channel_hists for (layer, _, _), found in stats.items()}
    return {layer: frozenset(dead_channel_indices(found)) for layer, found in channels.items() if found is not None}


def _nansense_rows(place: Place) -> Sequence[str]:
    name = place.activation.removesuffix("()")
    if name == place.activation:
        return [name] if place.call == 1 else [f"{name}_{place.call}"]
    return [f"{name}{place.call}", name] if place.call == 1 else [f"{name}{place.call}"]


# Packages that count units ------------------------------------------------------------------------------------------


def _torchdiag(model: nn.Module, batches: list[Tensor]) -> Rows:
    import torchdiag

    found = torchdiag.check_dead_neurons(model, torch.cat(batches))  # it takes one batch
    return {name: row["dead"] for name, row in found.items()}


def _traintools(model: nn.Module, batches: list[Tensor]) -> Rows:
    from traintools import PlasticityProbe

    probe = PlasticityProbe(model, max_samples=2**62)  # by default it keeps the latest 1,024 positions
    forward(model, batches)
    layers = probe.measure().layers
    probe.remove_hooks()
    return {layer.name: round(layer.dead_fraction * layer.n_units) for layer in layers}


def _monitorch(model: nn.Module, batches: list[Tensor]) -> Rows:
    from monitorch.inspector import PyTorchInspector
    from monitorch.lens import OutputActivation
    from monitorch.visualizer import DummyVisualizer

    shares: dict[str, float] = {}

    class Shares(DummyVisualizer):  # type: ignore[misc]  # a class of a package without types
        """Keeps what a plot would show."""

        def plot_probabilities(self, epoch: int, main_tag: str, values_dict: Any) -> None:
            shares.update({name: row["death_rate"] for name, row in values_dict.items()})

    lens = OutputActivation(record_eval=True, warning_plot=False)
    inspector = PyTorchInspector(lenses=[lens], module=model, visualizer=Shares())
    forward(model, batches)
    inspector.tick_epoch()
    inspector.detach()
    return shares


# Packages that count positions, and that warn of layers ---------------------------------------------------------------


def _dead_relu_viz(model: nn.Module, batches: list[Tensor]) -> Rows:
    from dead_relu_viz import visualization

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        visualization(model, [(batch, None) for batch in batches], with_activation=True, device="cpu")
    found = re.findall(r"^  (\S+) -> +(\d+|none) dead", printed.getvalue(), re.MULTILINE)
    return {name: 0 if count == "none" else int(count) for name, count in found}


def _torch_audit(model: nn.Module, batches: list[Tensor]) -> Rows:
    from torch_audit import Auditor

    with Auditor(model) as auditor, torch.no_grad():
        for batch in batches:
            auditor.forward(batch)
    return {finding.module_path: 1 for finding in auditor.finish().findings if finding.rule_id == "TA105"}


def _torchmortem(model: nn.Module, batches: list[Tensor]) -> Rows:
    from torchmortem import Autopsy

    with Autopsy(model) as autopsy, torch.no_grad():
        for batch in batches:
            model(batch)
            autopsy.step(loss=0.0)  # no gradients are needed for what it says of dead units
    findings = autopsy.get_report().findings
    return {layer: 1 for each in findings if each.category == "dead_units" for layer in each.affected_layers}


READERS = (
    Reader(OURS, UNITS, lambda place: [_call(place.activation, place.call)], _ours, activations_only=True),
    Reader("nansense", UNITS, _nansense_rows, _nansense),
    Reader("torchdiag", COUNTS, _activation, _torchdiag),
    Reader("traintools", COUNTS, _activation, _traintools),
    Reader("monitorch", SHARES, _activation, _monitorch),
    Reader("dead-relu-viz", POSITIONS, lambda place: [place.weights], _dead_relu_viz),
    Reader("torchmortem", WARNINGS, _activation, _torchmortem),
    Reader("torch-audit", WARNINGS, _activation, _torch_audit),
)
