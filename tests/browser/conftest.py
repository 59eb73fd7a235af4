from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.pictures import CHROMIUM
from tests.support.sites import Site, running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's own browser. While it runs, playwright keeps an event loop in this thread, so
    that other modules' tests could start none.
    """
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A service with an empty database."""
    with running(tmp_path) as site:
        yield site
