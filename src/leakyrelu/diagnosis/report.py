"""A census with its findings and its writers: what `diagnose` returns."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from leakyrelu.diagnosis.census import Census
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.plan import make_plan
from leakyrelu.diagnosis.render import dataframe, deserialize, notebook, serialize, text

if TYPE_CHECKING:
    import os

    from leakyrelu.diagnosis.census import CensusSeries
    from leakyrelu.diagnosis.finding import Finding
    from leakyrelu.diagnosis.plan import Step


class Report(Census):
    """The census of a network, with findings and writers. Its repr is the table.

    Parameters
    ----------
    layers
        What was counted, in the order of the first call.
    unused
        Names of activations that were looked at and never called.
    source, command
        What was run, and by which command line, as for a `Census`.
    data, program
        What the data held, and what the model called, as for a `Census`.

    Examples
    --------
    >>> from leakyrelu.diagnosis import Counts, Layer, Report
    >>> counts = Counts(
    ...     samples=1000, calls=4, positive=[0, 480, 1000], nan=[0, 0, 0], saturated=[0, 0, 0],
    ...     outputs=[1000] * 3, mean=[0.0, 0.4, 1.9], m2=[0.0, 340.0, 250.0], relu_sum=[0.0, 400.0, 1900.0],
    ... )
    >>> report = Report([Layer("body.relu", "ReLU", 0.0, counts)])
    >>> report["body.relu"].silent_units, report["body.relu"].always_on_units
    (array([0]), array([2]))
    >>> report["body.relu"].positive_share
    array([0.  , 0.48, 1.  ])
    """

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What the numbers mean and what to do about it, the worst first; a healthy network is called so."""
        return find(self)

    @cached_property
    def plan(self) -> tuple[Step, ...]:
        """What to do first, what then, and what checks it afterwards; "Nothing to do." for a healthy network."""
        return make_plan(self)

    def __repr__(self) -> str:
        return text.format_table(self)

    def _repr_html_(self) -> str:
        return notebook.to_notebook(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Every count and every number derived from it, as JSON; also written to `path` if one is given.

        Layers are in the order of their first call.

        The field ``version`` grows when the meaning of a field changes. NaN and infinity are written as null.
        """
        return serialize.to_json(self, path)

    @staticmethod
    def from_json(text: str) -> Report:
        """Read back what `to_json` wrote, of this version or an older one: the counts, exactly.

        Raises
        ------
        ValueError
            The text is no JSON, or no report; the message names the field, its value and what is wrong with it.
        """
        census = deserialize.from_json(text)
        return Report(**{field.name: getattr(census, field.name) for field in fields(Census)})

    def to_frame(self) -> Any:
        """Give a `pandas.DataFrame` with one row a unit: its layer, its number, its shares, mean and deviation.

        Rows are in the order of the layers' first calls.

        Needs pandas; an ImportError says how to install it.
        """
        return dataframe.to_frame(self)

    def to_png(self, path: str | os.PathLike[str], *, title: str = "What the units do", scale: float = 2.0) -> None:
        """Write the strips as a PNG: one a layer, in each color as long as the share of its units that have it.

        Needs the extra ``report``; an ImportError says how to install it.
        """
        from leakyrelu.diagnosis.render import html  # the page toolkit is loaded by those who write a page

        html.write_picture(self, path, title=title, scale=scale)

    def to_html(
        self, path: str | os.PathLike[str], *, title: str = "What the units do", history: CensusSeries | None = None
    ) -> None:
        """Write one HTML page, which works offline: findings, a strip of units per layer, distributions and the table.

        The `history` of a training is drawn too: any object that has ``steps`` and, for each, a report in ``reports``.

        Needs the extra ``report``; an ImportError says how to install it.
        """
        from leakyrelu.diagnosis.render import html

        html.write_diagnosis(self, path, title=title, history=history)
