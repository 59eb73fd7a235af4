"""Reports in a browser that has no network: everything is in the file, and its policy is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from latency_service.agent.testing import FakeAgent
from pruning_client.reports.html import render
from tests.support.pictures import wait_for_figures
from tests.support.predictions import publish
from tests.support.reports import pruning_report
from tests.support.sites import Site
from tests.support.tiny import tiny_space
from tests.support.visitors import SERIOUS


def predictors_report(site: Site) -> str:
    space_id = site.upload(tiny_space())
    agent = FakeAgent(site.http, site.post("/v1/enrolments")["token"])
    predictor = publish(site.http, site.database, agent, space_id)  # type: ignore[arg-type]
    target = site.get(f"/v1/predictors/{predictor}")["target_id"]
    return site.http.get(f"/reports/{target}").text


@pytest.mark.parametrize("whose", ["the service's", "the client's"])
def test_a_report_opens_without_a_network(
    chromium: Browser, site: Site, tmp_path: Path, whose: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(
        predictors_report(site) if whose == "the service's" else render(pruning_report())
    )
    context = chromium.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    faults: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    wait_for_figures(page)
    expect(page.locator(".main-svg").first).to_be_visible()
    assert faults == []
    assert requests == [path.as_uri()]
    assert serious(page) == []
    context.close()


def serious(page: Page) -> list[str]:
    """What axe finds that keeps somebody from reading the page."""
    found = Axe().run(page).response["violations"]
    return [one["id"] for one in found if one["impact"] in SERIOUS]
