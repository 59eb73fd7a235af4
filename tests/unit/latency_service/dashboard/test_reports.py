"""Reports of predictors, campaigns and targets: one file, without links, that anyone may keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from tests.support.pages import Page
from tests.support.plain_browser import Browser
from tests.support.predictions import publish
from tests.support.settings import API_TOKEN


@pytest.fixture
def predictor(app: FastAPI, agent: FakeAgent, space_id: str) -> str:
    with TestClient(app, headers=bearer(API_TOKEN)) as client:
        return publish(client, app.state.database, agent, space_id)


def text_of(browser: Browser, subject: str) -> str:
    """What a reader sees; nothing is loaded, and the script of the figures is there once."""
    answer = browser.open(f"/reports/{subject}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert len(answer.content) < 6e6
    assert answer.text.count("plotly.js v") == 1
    page = Page()
    page.feed(answer.text)
    assert page.loaded == []
    return " ".join(page.text.split())


def test_a_predictor_with_all_that_says_how_far_it_can_be_trusted(
    browser: Browser, predictor: str
) -> None:
    text = text_of(browser, predictor)
    for expected in (
        "Predictor of tiny, version 1",
        "measured on board · CPU · 1 thread · batch 1 · fp32",
        "held-out error1.00 %",
        "repeatability floor0.500 %",
        "Is the interval what it promises?",
        "Compared with simpler models",
        "The canaries",
        "Not for",
        f"latency-service report {predictor}",
    ):
        assert expected in text
    assert " ago" not in text, "ages are wrong as soon as a file is kept"


def test_a_campaign_that_has_no_predictor_yet(
    api: Callable[..., Any], browser: Browser, space_id: str, agent: FakeAgent
) -> None:
    body = {"space_id": space_id, "device": "board", "count": 20}
    campaign = api("POST", "/v1/campaigns", json=body)["id"]
    text = text_of(browser, campaign)
    assert "Campaign of tiny on board" in text
    assert "nothing is measured yet" in text


def test_a_target_with_its_lattice_and_predictors(
    api: Callable[..., Any], browser: Browser, predictor: str
) -> None:
    target = api("GET", f"/v1/predictors/{predictor}")["target_id"]
    text = text_of(browser, target)
    assert "The lattice of this target was not measured yet." in text
    assert "Predictors, newest first" in text


def test_what_nobody_knows_and_who_may_not_look(browser: Browser, anyone: Browser) -> None:
    answer = browser.client.get("/reports/nothing")
    assert answer.status_code == 404
    assert "predictors list" in answer.json()["error"]["cure"]


def test_only_those_who_may_read_get_a_report(anyone: Browser, predictor: str) -> None:
    anyone.client.cookies.clear()
    assert anyone.client.get(f"/reports/{predictor}").status_code == 401


@pytest.mark.parametrize("page", ["/predictors/{}", "/targets/{}"])
def test_the_pages_link_to_their_report(
    api: Callable[..., Any], browser: Browser, predictor: str, page: str
) -> None:
    target = api("GET", f"/v1/predictors/{predictor}")["target_id"]
    subject = predictor if "predictors" in page else target
    assert f'href="/reports/{subject}"' in browser.open(page.format(subject)).text
