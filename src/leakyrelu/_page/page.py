"""One self-contained HTML page of charts and tables, and one chart as a PNG.

The page works offline: the chart library is inlined, a content security policy forbids every request, and a chart
whose data would have to be fetched is refused. Nothing here knows what the charts are about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leakyrelu._extras import require
from leakyrelu._files import write_file
from leakyrelu._json import to_plain
from leakyrelu._page.theme import DARK, LIGHT
from leakyrelu._text import counted, printable, printable_lines

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NUMBER = re.compile(r"[-+−±<>≤≥~]?\s*\.?\d(?!.*, ).*|[-–—]?|nan|n/a", re.IGNORECASE)  # a list, "3, 8, 12", is not one
_PNG_WIDTH = 720


@dataclass(frozen=True)
class Chart:
    """A chart and the words that go with it.

    Parameters
    ----------
    id
        Name of the chart in the page's addresses: a letter, then letters, digits, ``-`` or ``_``.
    title
        The heading. A title inside `spec` is left out on the page, which shows this one.
    description
        What the chart shows, for people who do not see it; also the caption below it.
    spec
        A Vega-Lite specification as a dict, such as ``altair.Chart(...).to_dict()``, data included. Single views,
        layers, row facets and vertical concatenations take the width of the page; anything else keeps its own width
        and scrolls. Colors come from the page's theme, which has a light and a dark form, unless the spec names them.
        Or ``{"strips": {"bins": [...], "rows": [...]}}``: strips of marks on a canvas, where thousands stay smooth. The
        names of `bins` have the colors of the theme's diverging range; a row has a ``name`` and, for each mark in the
        order drawn, its number ``unit``, the index of its ``bin``, and in words ``share``, ``mean`` and ``std``.
    """

    id: str
    title: str
    description: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Text in rows; columns whose cells all begin with a number are aligned to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def write_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: str,
    charts: Sequence[Chart],
    tables: Sequence[Table] = (),
    notices: Sequence[object] = (),
    steps: Sequence[object] = (),
    footnote: str = "",
) -> None:
    """Write one HTML file that needs no network, no server and no other file.

    Charts follow the reader's light or dark preference and the width of the window. Each ``figure[data-chart]`` gets
    ``data-drawn="true"`` once its chart is drawn. The arrow keys move from mark to mark of a chart.

    Notices come before the charts; their attributes are those of a finding: ``severity``, ``title``, ``evidence``,
    ``remedy``, ``code``, ``source`` and ``place``. `steps` follow them as a numbered list, each with ``text`` and
    ``code``. Text is plain, and what a reader cannot see in it (control characters and the like) is written out; blank
    lines in `summary` and `footnote` separate paragraphs.
    With an odd number of charts the first takes the full width. A ValueError refuses two charts with one id, an id that
    cannot stand in an address, a chart that would fetch its data, and a table row with the wrong number of cells.
    """
    _check(charts, tables)
    jinja2 = require("jinja2", by="a page")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_visible,
    )
    specs = {chart.id: _visible(to_plain(chart.spec)) for chart in charts}
    html = environment.get_template("page.html.jinja").render(
        title=printable(title),
        summary=_paragraphs(summary),
        footnote=_paragraphs(footnote),
        charts=charts,
        notices=notices,
        steps=steps,
        tables=[(table, _numeric_columns(table)) for table in tables],
        data={"specs": specs, "themes": {"light": to_plain(LIGHT), "dark": to_plain(DARK)}},
        style=_asset("page.css"),
        script=_asset("page.js"),
        strips=_asset("strips.js") if any("strips" in spec for spec in specs.values()) else "",
        library=_library(drawn) if (drawn := [spec for spec in specs.values() if "strips" not in spec]) else "",
    )
    write_file(path, html)


def write_png(spec: Mapping[str, Any], path: str | os.PathLike[str], *, scale: float = 2.0) -> None:
    """Write one chart as a PNG, in the light theme on white.

    A width of ``"container"`` becomes 720; `scale` is pixels per unit of the specification. A ValueError refuses a
    chart that would fetch its data, a scale not above 0, and a path with the ending of another kind of file.
    """
    check_png(path)
    _refuse_urls(spec, "the chart")
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be a finite number above 0, got {scale!r}: 1 is a pixel a unit")
    vl_convert = require("vl_convert", by="a page")
    plain = _visible(to_plain(spec))
    if plain.get("width") == "container":
        plain["width"] = _PNG_WIDTH
    config = {**LIGHT, "background": "white"}
    png = vl_convert.vegalite_to_png(plain, vl_version=_vegalite_version([plain]), scale=scale, config=config)
    write_file(path, png)


def check_png(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError for a path that has the ending of another kind of file than PNG."""
    if (suffix := Path(path).suffix) and suffix.lower() != ".png":
        raise ValueError(
            f"the path {str(path)!r} ends in {suffix!r}, but pictures are written as PNG: end it in '.png'"
        )


def _check(charts: Sequence[Chart], tables: Sequence[Table]) -> None:
    seen: set[str] = set()
    for chart in charts:
        if not _ID.fullmatch(chart.id):
            raise ValueError(
                f"the chart id {chart.id!r} cannot stand in an address: use a letter, then letters, digits, '-' or '_'"
            )
        if chart.id in seen:
            raise ValueError(f"two charts have the id {chart.id!r}: give each chart its own")
        seen.add(chart.id)
        _refuse_urls(chart.spec, f"the chart {chart.id!r}")
    for table in tables:
        for number, row in enumerate(table.rows):
            if len(row) != len(table.columns):
                raise ValueError(
                    f"row {number} of the table {table.title!r} has {counted(len(row), 'cell')} for "
                    f"{counted(len(table.columns), 'column')}: give every row one cell per column"
                )


def _refuse_urls(spec: Any, what: str) -> None:
    """Refuse data that would have to be fetched: the page works offline."""
    for data in _find(spec, "data"):
        if "url" in data:
            raise ValueError(f"{what} would fetch its data from {data['url']!r}: put the values into the specification")


def _find(node: Any, key: str) -> Iterator[dict[str, Any]]:
    """Every dict under `key`, without descending into inline values (which may have any keys)."""
    if isinstance(node, dict):
        for name, child in node.items():
            if name == key and isinstance(child, dict):
                yield child
            elif name not in ("values", "datasets"):
                yield from _find(child, key)
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _find(child, key)


def _vegalite_version(specs: Sequence[dict[str, Any]]) -> str | None:
    """Find the bundled Vega-Lite for the specifications, which name theirs as ``.../v6.4.1.json``."""
    wanted = {match[1] for spec in specs if (match := re.search(r"/v(\d+\.\d+)[\d.]*\.json$", spec.get("$schema", "")))}
    versions = require("vl_convert", by="a page").get_vegalite_versions()
    available: list[str] = [version.removeprefix("v") for version in versions]
    for version in sorted(wanted, key=_version_key, reverse=True):
        same_major = [have for have in available if have.split(".")[0] == version.split(".")[0]]
        if version in available:
            return version
        if same_major:
            return max(same_major, key=_version_key)
    return None


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _library(specs: Sequence[dict[str, Any]]) -> str:
    bundle: str = require("vl_convert", by="a page").javascript_bundle(vl_version=_vegalite_version(specs))
    # Within a script element these two are markup; in JavaScript strings the escaped forms are equal to them.
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _visible(value: Any) -> Any:
    """Return plain values with every text printable, line by line; markup, which is our own, stays as it is."""
    if isinstance(value, dict):
        return {_visible(name): _visible(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return printable_lines(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _asset(name: str) -> str:
    return files("leakyrelu._page").joinpath("assets", name).read_text(encoding="utf-8")


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _numeric_columns(table: Table) -> list[bool]:
    return [
        column > 0 and bool(table.rows) and all(_NUMBER.fullmatch(row[column].strip()) for row in table.rows)
        for column in range(len(table.columns))
    ]
