"""A page opened in headless Chromium, with its console messages, errors and requests."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from playwright.sync_api import sync_playwright

from . import need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

DESKTOP = (1280, 900)
PHONE = (390, 844)

# Chromium sends requests of its own at the start (updates, sync, QUIC): only those of the page are to be counted.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Opened:
    """An open page and its events so far."""

    page: Page
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def network(self) -> list[str]:
        """Requests that left the file."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]

    def wait_drawn(self) -> int:
        """Wait until every chart is drawn, and return their number; a chart that failed is an error at once."""
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('figure[data-chart]')].every(f => f.dataset.drawn !== 'false')"
        )
        failed = self.page.locator("figure[data-drawn='failed']").all_inner_texts()
        assert failed == [], (failed, self.console)
        return self.page.locator("figure[data-chart]").count()

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window (0: no sideways scrolling)."""
        wider: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wider

    def assert_clean(self) -> None:
        """No console warning or error, no exception, no request beyond the file itself."""
        assert self.console == []
        assert self.errors == []
        assert self.network == []


@contextmanager
def start_chromium() -> Iterator[Browser]:
    """One browser for several pages."""
    path = need("chromium", "chromium-browser", "google-chrome", packages="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser,
    path: str | Path,
    *,
    viewport: tuple[int, int] = DESKTOP,
    color_scheme: Literal["light", "dark"] = "light",
    **context: Any,
) -> Iterator[Opened]:
    """Open a file at a window size and color scheme, recording from before the first byte."""
    made = browser.new_context(
        viewport={"width": viewport[0], "height": viewport[1]}, color_scheme=color_scheme, **context
    )
    try:
        opened = Opened(made.new_page())
        page = opened.page
        page.on("console", lambda m: opened.console.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(Path(path).resolve().as_uri())
        yield opened
    finally:
        made.close()
