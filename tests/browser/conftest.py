from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.pictures import CHROMIUM, sign_in
from tests.support.shown_site import Shown, show
from tests.support.sites import Site, running
from tests.support.visitors import DESK, Visitor, visitor


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


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with running(tmp_path_factory.mktemp("service")) as site:
        yield show(site)


@pytest.fixture
def desk(chromium: Browser, shown: Shown) -> Iterator[Visitor]:
    """A signed-in visitor, who must not find a fault."""
    with visitor(chromium, shown.site, DESK, "light") as found:
        sign_in(found.page, shown.site)
        yield found
        assert found.faults == []
