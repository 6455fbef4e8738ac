"""A report as a pandas table, one row a unit."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._extras import require
from leakyrelu.diagnosis.layer import TAUS

if TYPE_CHECKING:
    from leakyrelu.diagnosis.census import Census
    from leakyrelu.diagnosis.layer import Layer


def to_frame(census: Census) -> Any:
    """See `Report.to_frame`."""
    pandas = require("pandas", by="Report.to_frame")
    parts = [_columns(layer) for layer in census.layers]
    names = parts[0] if parts else ("layer", "unit")
    frame = pandas.DataFrame({name: np.concatenate([part[name] for part in parts]) if parts else [] for name in names})
    frame.attrs["dormant_ratio"] = {tau: census.dormant_ratio(tau) for tau in TAUS}
    return frame


def _columns(layer: Layer) -> dict[str, Any]:
    units, axis = np.arange(layer.units), layer.axis

    def every(value: Any, dtype: Any = None) -> Any:
        return np.broadcast_to(np.asarray(value, dtype), (layer.units,))

    return {
        "layer": every(layer.name, object),
        "kind": every(layer.kind, object),
        **{name: every(value, object) for name, value in asdict(layer.place).items()},
        "unit": units,
        "negative_slope": every(layer.negative_slope, np.float64),
        "samples": every(layer.samples),
        "positive_share": layer.positive_share,
        "silent": np.isin(units, layer.silent_units),
        "always_on": np.isin(units, layer.always_on_units),
        "saturated": np.isin(units, layer.saturated_units),
        "nan": layer.counts.nan,
        "effective_slope": layer.effective_slope,
        "output_mean": layer.output_mean,
        "output_std": layer.output_std,
        "dormancy": layer.dormancy,
        **{f"dormant_{tau:g}": layer.dormancy <= tau for tau in TAUS},
        "axis": every("" if axis is None else ", ".join(map(str, axis.axes)), object),
        "axis_known": every(None if axis is None else axis.known, object),
    }
