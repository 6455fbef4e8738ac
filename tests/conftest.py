"""Settings and fixtures for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

# A test has no time limit: on a busy machine the usual 200 milliseconds an example say nothing about the code.
settings.register_profile("leakyrelu", deadline=None)
settings.load_profile("leakyrelu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that processes side by side end together; each runs whole files, with their fixtures."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One headless Chromium for a test module."""
    from support.browser import start_chromium  # Playwright, for the tests of pages alone

    with start_chromium() as browser:
        yield browser
