"""A page opened in headless Chromium, with everything it complained about or asked the network for."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

DESKTOP = (1280, 900)
PHONE = (390, 844)

# Chromium itself calls home at the start (updates, sync, QUIC): what is counted must be the page's own doing.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_path() -> str:
    """Debian's Chromium, or whichever stands on the PATH."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("no Chromium on the PATH: apt-get install chromium")


@dataclass
class Opened:
    """A page and what happened while it was open."""

    page: Page
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def network(self) -> list[str]:
        """Requests that left the file."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]

    def wait_drawn(self) -> int:
        """Wait until every chart stands, and return their number; a chart that failed is an error at once."""
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
    """One browser, for several pages."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One headless Chromium for a test module; import the name to use it."""
    with start_chromium() as browser:
        yield browser
