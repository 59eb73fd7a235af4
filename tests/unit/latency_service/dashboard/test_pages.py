"""What every page has: three addresses, its headers, errors in its layout."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.app import create_app
from latency_service.dashboard import assets
from latency_service.dashboard.campaigns.form import EMPTY
from latency_service.settings import Settings
from tests.support.plain_browser import Browser

PAGES = ["/", "/devices", "/campaigns", "/campaigns/new", "/measurements", "/queue"]


@pytest.fixture
def filled(api: Callable[..., Any], agent: FakeAgent, space_id: str) -> dict[str, str]:
    """Paths of pages of single things, by what they are."""
    body = {"space_id": space_id, "device": "board", "count": 20, "batch_size": 4}
    campaign = api("POST", "/v1/campaigns", json=body)["id"]
    lease = agent.claim()
    assert lease is not None
    agent.send(lease)
    failing = agent.claim()
    assert failing is not None
    agent.fail(failing, "device_oom", "<script>alert(1)</script>")
    measurement = api("GET", "/v1/measurements")[0]["id"]
    return {
        "device": "/devices/board",
        "campaign": f"/campaigns/{campaign}",
        "measurement": f"/measurements/{measurement}",
        "job": f"/jobs/{failing['job_id']}",
    }


def test_every_page_answers_as_html_json_and_csv(browser: Browser, filled: dict[str, str]) -> None:
    for path in [*PAGES, *filled.values()]:
        page = browser.open(path)
        assert page.status_code == 200, path
        data = "/home" if path == "/" else path
        assert browser.client.get(data + ".json").json()
        if path != "/campaigns/new":
            listed = browser.client.get(data + ".csv")
            assert listed.headers["content-type"].startswith("text/csv")
            assert f'href="{data}.csv"' in page.text


def test_every_page_has_a_strict_policy_and_keeps_it(
    browser: Browser, filled: dict[str, str]
) -> None:
    for path in [*PAGES, *filled.values()]:
        page = browser.open(path)
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert page.headers["cache-control"] == "private, no-store"
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page.text), path
        scripts = re.findall(r"<script(?![^>]*(?:src=|application/json))", page.text)
        assert scripts == []


def test_text_of_devices_is_never_markup(browser: Browser, filled: dict[str, str]) -> None:
    for path in (filled["job"], filled["campaign"], "/", "/queue?state=queued"):
        assert "<script>alert" not in browser.open(path).text
    assert "&lt;script&gt;alert" in browser.open(filled["job"]).text


def test_an_error_is_a_page_with_cause_and_cure(browser: Browser) -> None:
    answer = browser.open("/devices/nobody")
    assert answer.status_code == 404
    assert "There is no device" in answer.text
    assert "latency-service devices list" in answer.text
    assert "content-security-policy" in answer.headers


def test_an_error_stays_json_for_programs(browser: Browser) -> None:
    assert browser.client.get("/devices/nobody.json").json()["error"]["code"] == "not_found"
    under_v1 = browser.client.get("/v1/devices/nobody", headers={"accept": "text/html"})
    assert under_v1.json()["error"]["code"] == "unauthorised"


def test_a_bad_query_is_a_page(browser: Browser) -> None:
    answer = browser.open("/queue?state=nonsense")
    assert answer.status_code == 422
    assert "<h1>" in answer.text


def test_long_lists_have_pages(
    browser: Browser, api: Callable[..., Any], agent: FakeAgent, space_id: str
) -> None:
    widths = [[a, b] for a in range(2, 17) for b in range(2, 17)][:120]
    body = {
        "space_id": space_id,
        "device": "board",
        "purpose": "measure",
        "widths": widths,
        "batch_size": 60,
    }
    api("POST", "/v1/campaigns", json=body)
    agent.work()
    seen: list[str] = []
    query = ""
    while True:
        view = browser.client.get(f"/measurements.json{query}").json()
        seen += [row["id"] for row in view["measurements"]]
        if view["older"] is None:
            break
        query = f"?before={view['older']}"
    assert len(seen) == view["total"] == 120
    assert len(set(seen)) == 120
    assert seen == sorted(seen, reverse=True)
    assert "50 of 120" in browser.open("/measurements").text
    assert browser.client.get("/measurements.csv").text.count("\n") == 121
    unstable = browser.client.get("/measurements.json?verdict=unstable").json()
    assert unstable["total"] == 0


def test_files_are_cached_for_good_and_named_by_their_content(anyone: Browser) -> None:
    for name in ("dashboard.css", "dashboard.js", "palette.css", "plotly.js", "icon.svg"):
        address = f"/static/{assets.asset(name).address}"
        answer = anyone.client.get(address)
        assert answer.content == assets.asset(name).content
        assert "immutable" in answer.headers["cache-control"]
    assert anyone.client.get("/static/dashboard.000000000000.css").status_code == 404
    assert anyone.client.get("/static/..%2Fpages.py").status_code == 404


@pytest.mark.parametrize("keeps_prefix", [True, False])
def test_every_link_works_under_a_path(
    browser: Browser, app: FastAPI, settings: Settings, filled: dict[str, str], keeps_prefix: bool
) -> None:
    """Behind a proxy that keeps the path, and behind one that cuts it off."""
    moved = create_app(settings.model_copy(update={"root_path": "/x"}))
    with TestClient(moved, cookies=dict(browser.client.cookies)) as client:
        for path in [*PAGES, *filled.values()]:
            text = client.get(f"/x{path}" if keeps_prefix else path).text
            links = re.findall(r'(?:href|src|action|data-live|data-plotly)="([^"#]+)', text)
            assert links
            assert {link for link in links if not link.startswith("/x/")} == set(), path


def test_pages_do_not_load_plotly(app: FastAPI) -> None:
    import subprocess
    import sys

    code = "import sys, latency_service.app; print('plotly' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_data_of_a_comparison_are_of_the_runs_on_the_page(
    browser: Browser, api: Callable[..., Any], space_id: str
) -> None:
    body = {"name": "net", "method": "gdp", "space_id": space_id, "predictor_id": None}
    ids = [api("POST", "/v1/runs", json={**body, "budget_ms": 1.0})["id"] for _ in range(3)]
    text = browser.open("/compare?" + "&".join(f"run={one}" for one in ids)).text
    links = [html.unescape(link) for link in re.findall(r'href="(/compare\.[^"]+)', text)]
    assert len(links) == 2
    for link in links:
        answer = browser.client.get(link).text
        assert all(one in answer for one in ids), link


def test_a_campaign_from_the_form_is_checked_as_by_the_api(
    browser: Browser, agent: FakeAgent, space_id: str, app: FastAPI
) -> None:
    app.state.settings = app.state.settings.model_copy(update={"max_campaign_architectures": 30})
    fields = {**EMPTY, "space": space_id, "device": "board", "count": "31"}
    refused = browser.send("/campaigns/new", "/campaigns", fields)
    assert (refused.status_code, "the maximum is 30" in refused.text) == (422, True)
    assert browser.client.get("/campaigns.json").json()["total"] == 0
    fields["count"] = "30"
    assert browser.send("/campaigns/new", "/campaigns", fields).status_code == 303
