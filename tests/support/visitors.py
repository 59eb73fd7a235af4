"""A browser that notes whatever a page should not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

from tests.support.sites import Site

#: Sizes of the window.
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")


@dataclass
class Visitor:
    """One browser window, and what went wrong in it."""

    page: Page
    site: Site
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        answer = self.page.goto(self.site.url + path)
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"

    def check(self) -> None:
        """No error in the console, no request to elsewhere, nothing serious found by axe, nothing
        wider than the window.
        """
        assert self.faults == []
        found = Axe().run(self.page).response["violations"]
        serious = [_told(one) for one in found if one["impact"] in SERIOUS]
        assert serious == [], self.page.url
        wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not self.page.evaluate(wider), f"{self.page.url} scrolls sideways"

    def note(self, fault: str) -> None:
        self.faults.append(fault)


@contextmanager
def visitor(browser: Browser, site: Site, size: dict[str, int], scheme: str) -> Iterator[Visitor]:
    """A window of that size and colour scheme, until the block ends."""
    context = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    found = Visitor(page=page, site=site)
    page.on("console", lambda message: _note_console(found, message))
    page.on("pageerror", lambda error: found.note(f"error: {error}"))
    page.on("request", lambda request: _note_request(found, request))
    try:
        yield found
    finally:
        context.close()


def _note_console(found: Visitor, message: Any) -> None:
    if message.type in ("error", "warning"):
        found.note(f"{message.type}: {message.text}")


def _note_request(found: Visitor, request: Request) -> None:
    parts = urlsplit(request.url)
    is_own = request.url.startswith(found.site.url + "/")
    if not is_own and parts.scheme not in ("data", "blob"):
        found.note(f"request to {request.url}")


def _told(violation: dict[str, Any]) -> str:
    nodes = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
    return f"{violation['id']} ({violation['impact']}): {violation['help']}: {nodes}"
