"""Page of a `SlopeChoice`: the sentence, similarity by depth at three slopes, and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu._page import Chart, Table, write_page
from leakyrelu._text import counted

if TYPE_CHECKING:
    import os

    from leakyrelu.torch.slope.answer import SlopeChoice


def similarity_chart(choice: SlopeChoice) -> Chart:
    """Return a line a slope: the similarity of unrelated inputs behind each activation."""
    series = {_label(choice, title): values for title, values in reversed(choice.columns().items())}
    rows = [
        {"activation": number, "name": layer.name, "slope": label, "similarity": value}
        for label, values in series.items()
        for number, (layer, value) in enumerate(zip(choice.layers, values, strict=True), 1)
    ]
    encoding = {
        "x": {"field": "activation", "type": "quantitative", "title": "activation, in the order of the calls"},
        "y": {
            "field": "similarity",
            "type": "quantitative",
            "title": "similarity of unrelated inputs",
            "scale": {"domain": [min(0.0, *(min(values) for values in series.values())), 1.0]},
        },
        "color": {"field": "slope", "type": "nominal", "title": "slope", "sort": list(series)},
        "tooltip": [{"field": key, "type": "nominal"} for key in ("name", "slope")]
        + [{"field": "similarity", "type": "quantitative", "format": ".3f"}],
    }
    spec = {
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "line", "point": len(choice.layers) <= _POINTS}, "encoding": encoding},
            {
                "data": {"values": [{"similarity": choice.eta}]},
                "mark": {"type": "rule", "strokeDash": [4, 4]},
                "encoding": {"y": {"field": "similarity", "type": "quantitative"}},
            },
        ],
    }
    description = (
        f"Cosine similarity of two unrelated inputs behind each of {counted(len(choice.layers), 'activation')}, at "
        f"initialization; 1 means that they can no longer be told apart. The dashed line is eta = {choice.eta:g}."
    )
    return Chart("similarity", "Similarity by depth", description, spec)


def _label(choice: SlopeChoice, title: str) -> str:
    if title == "0":
        return "ReLU (0)"
    return f"chosen ({title})" if choice.slope is not None and title == f"{choice.slope:.3f}" else title


_POINTS = 40  # activations up to which each has a mark


def write_choice(choice: SlopeChoice, path: str | os.PathLike[str], title: str = "Slope of the network") -> None:
    """Write the page."""
    columns = choice.columns()
    rows = [
        [layer.name, "-" if layer.units is None else f"{layer.units:,}", *(f"{value:.3f}" for value in values)]
        for layer, *values in zip(choice.layers, *columns.values(), strict=True)
    ]
    notes = [("approximation", choice.assumed), ("operation that could not be read", choice.unknown)]
    write_page(
        path,
        title=title,
        summary=choice.reason,
        charts=[similarity_chart(choice)],
        tables=[
            Table("Similarity of unrelated inputs, by slope", ["activation", "units", *columns], rows),
            *(
                Table(counted(len(texts), what), ["where"], [[text] for text in texts])
                for what, texts in notes
                if texts
            ),
        ],
        footnote=" ".join(choice.remarks),
    )
