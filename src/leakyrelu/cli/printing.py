"""Lines that the command prints beside its results: errors, warnings, progress."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from leakyrelu._text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[..., object]


def print_line(message: str) -> None:
    """Print a line on standard error."""
    print("leakyrelu:", printable(message), file=sys.stderr)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print each warning once, as a line on standard error, at the end of what went well."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for line in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
        print_line(line)


@contextmanager
def progress_bar(total: int, what: str = "samples") -> Iterator[Progress]:
    """Show a progress bar with rate and time left on standard error, where that is a terminal.

    A second argument of what is yielded is another total.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(done: int, total: int = total) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance
