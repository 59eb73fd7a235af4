"""Who gets in, with what cookie, and what other sites' pages cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI, Request
from sqlalchemy import delete, select, update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.dashboard import links, live
from latency_service.dashboard.models import SignInCode, WebSession
from latency_service.db.migrate import upgrade
from latency_service.settings import Settings
from tests.support.plain_browser import Browser
from tests.support.settings import API_TOKEN

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def stored(app: FastAPI) -> list[WebSession]:
    with app.state.database.read() as session:
        return list(session.scalars(select(WebSession)))


def test_a_page_leads_to_the_form_and_back(anyone: Browser) -> None:
    answer = anyone.open("/queue?state=failed")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/signin?next=%2Fqueue%3Fstate%3Dfailed"
    assert anyone.sign_in(wanted="/queue%3Fstate%3Dfailed").headers["location"] == (
        "/queue?state=failed"
    )
    assert anyone.open("/queue?state=failed").status_code == 200


@pytest.mark.parametrize("is_cut", [True, False], ids=["prefix cut", "prefix kept"])
def test_it_leads_back_behind_a_path_prefix(settings: Settings, is_cut: bool) -> None:
    upgrade(settings)
    app = create_app(settings.model_copy(update={"root_path": "/latency"}))
    prefix = "" if is_cut else "/latency"
    with TestClient(app, follow_redirects=False) as client:
        html = {"accept": "text/html"}
        answer = client.get(f"{prefix}/queue?state=failed", headers=html)
        assert answer.headers["location"] == "/latency/signin?next=%2Fqueue%3Fstate%3Dfailed"
        page = client.get(f"{prefix}/signin?next=%2Fqueue%3Fstate%3Dfailed", headers=html)
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf is not None
        form = {"csrf": csrf[1], "token": API_TOKEN, "next": "/queue?state=failed"}
        cookie = {"cookie": f"latency_signin={csrf[1]}"}
        signed = client.post(f"{prefix}/signin", data=form, headers=html | cookie)
        assert signed.headers["location"] == "/latency/queue?state=failed"


@pytest.mark.parametrize(
    "wanted", ["//evil.test", "https://evil.test", "/\\evil.test", "%2F%09%2Fevil.test", "evil"]
)
def test_the_form_leads_to_no_other_site(anyone: Browser, wanted: str) -> None:
    assert anyone.sign_in(wanted=wanted).headers["location"] == "/"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(anyone: Browser) -> None:
    cookie = anyone.sign_in().headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie


def test_the_cookie_is_secure_over_https(app: FastAPI) -> None:
    with TestClient(app, base_url="https://testserver") as client:
        assert "Secure" in Browser(client).sign_in().headers["set-cookie"]


def test_neither_cookie_nor_token_is_stored(anyone: Browser, app: FastAPI) -> None:
    cookie = anyone.sign_in().headers["set-cookie"].split("=", 1)[1].split(";")[0]
    [row] = stored(app)
    kept = {str(getattr(row, column.name)) for column in WebSession.__table__.columns}
    assert not any(cookie in value or API_TOKEN in value for value in kept)


def test_a_wrong_token_is_told_on_the_form(anyone: Browser, app: FastAPI) -> None:
    answer = anyone.sign_in("not-the-token-of-this-service")
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert stored(app) == []


def test_tokens_of_agents_do_not_open_pages(
    anyone: Browser, app: FastAPI, agent: FakeAgent
) -> None:
    assert anyone.sign_in(agent.token).status_code == 403
    assert stored(app) == []


def test_a_session_ends_with_its_token(browser: Browser, settings: Settings) -> None:
    changed = Settings(data_dir=settings.data_dir, api_token="another-token-0123456789")
    with TestClient(create_app(changed), cookies=dict(browser.client.cookies)) as client:
        assert Browser(client).open("/").status_code == 303


def test_a_session_ends_after_its_time(browser: Browser, app: FastAPI) -> None:
    with app.state.database.write() as session:
        session.execute(update(WebSession).values(expires_at=LONG_AGO))
    assert browser.open("/").status_code == 303


def test_signing_out_ends_the_session_at_once(browser: Browser, app: FastAPI) -> None:
    cookies = dict(browser.client.cookies)
    assert browser.send("/", "/signout", {}).status_code == 303
    assert stored(app) == []
    browser.client.cookies.update(cookies)
    assert browser.open("/").status_code == 303


@pytest.mark.parametrize("csrf", ["", "wrong", "é"])
@pytest.mark.parametrize("action", ["/signout", "/campaigns", "/devices/enrolments"])
def test_a_form_without_the_session_s_token_does_nothing(
    browser: Browser, app: FastAPI, action: str, csrf: str
) -> None:
    assert browser.send("/", action, {"csrf": csrf}).status_code == 403
    assert len(stored(app)) == 1


def test_a_form_of_another_site_does_nothing(browser: Browser, app: FastAPI) -> None:
    answer = browser.send("/", "/signout", {}, **{"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert len(stored(app)) == 1


def test_signing_in_takes_the_form_s_own_value(anyone: Browser, app: FastAPI) -> None:
    forged = anyone.send("/signin", "/signin", {"token": API_TOKEN, "csrf": "forged"})
    assert forged.status_code == 403
    assert stored(app) == []


def test_a_link_signs_in_once_and_by_its_form_only(
    anyone: Browser, app: FastAPI, api: Callable[..., Any]
) -> None:
    path = api("POST", "/v1/sign-in-codes")["path"]
    for _ in range(3):  # looking at it, as previews of links do, uses nothing up
        assert anyone.open(path).status_code == 200
    assert anyone.send(path, "/signin", {}).status_code == 303
    assert anyone.open("/").status_code == 200
    anyone.client.cookies.clear()
    assert anyone.send(path, "/signin", {}).status_code == 401


def test_a_link_is_soon_too_old(anyone: Browser, app: FastAPI, api: Callable[..., Any]) -> None:
    path = api("POST", "/v1/sign-in-codes")["path"]
    with app.state.database.write() as session:
        session.execute(update(SignInCode).values(expires_at=LONG_AGO))
    assert anyone.send(path, "/signin", {}).status_code == 401


def test_a_link_from_another_site_is_looked_at_once_more(browser: Browser) -> None:
    """Its first request comes without the cookie: the form's page loads the page anew."""
    answer = browser.open("/signin?next=/queue", **{"sec-fetch-site": "cross-site"})
    assert '<meta http-equiv="refresh" content="0; url=/queue">' in answer.text


def test_programs_read_the_data_with_their_token(api: Callable[..., Any]) -> None:
    assert api("GET", "/devices.json")["devices"] == []


def test_programs_without_a_token_get_an_error_and_no_form(anyone: Browser) -> None:
    answer = anyone.client.get("/devices.json")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_signed_in"


def test_a_bearer_token_sends_no_form(app: FastAPI, api: Callable[..., Any]) -> None:
    with TestClient(app, headers={"authorization": f"Bearer {API_TOKEN}"}) as client:
        assert client.post("/campaigns", data={"csrf": ""}).status_code == 403


def test_no_page_opens_without_signing_in(anyone: Browser) -> None:
    open_to_all = {"signin", "signout", "static", "docs"}
    for name, path in links.declared().items():
        if name not in open_to_all:
            address = re.sub(r"\{\w+\}", "0", path)
            answers = {
                method: anyone.client.request(method, address).status_code
                for method in ("GET", "POST")
            }
            assert set(answers.values()) <= {401, 405}, (path, answers)
            assert 401 in answers.values(), path


@pytest.fixture
def reader(anyone: Browser, api: Callable[..., Any]) -> Browser:
    """A browser whose token may only read."""
    made = api("POST", "/v1/tokens", json={"name": "reader", "scopes": ["read"]})
    assert anyone.sign_in(made["token"]).status_code == 303
    return anyone


def test_a_reader_sees_no_button_that_acts(
    reader: Browser, api: Callable[..., Any], agent: FakeAgent, space_id: str
) -> None:
    body = {"space_id": space_id, "device": "board", "count": 20}
    campaign = api("POST", "/v1/campaigns", json=body)["id"]
    for path in ("/", "/devices", "/campaigns", "/campaigns/new", f"/campaigns/{campaign}"):
        forms = re.findall(r'<form method="post" action="([^"]*)"', reader.open(path).text)
        assert forms == ["/signout"], path


def test_a_reader_cannot_act_either(reader: Browser, api: Callable[..., Any]) -> None:
    for action in ("/campaigns", "/devices/enrolments", "/campaigns/x/cancel"):
        answer = reader.send("/", action, {})
        assert answer.status_code == 403
        assert "scope" in answer.text


def test_whoever_submits_work_adds_no_device(anyone: Browser, api: Callable[..., Any]) -> None:
    made = api("POST", "/v1/tokens", json={"name": "worker", "scopes": ["read", "submit"]})
    anyone.sign_in(made["token"])
    assert "Start a campaign" in anyone.open("/campaigns").text
    assert anyone.send("/", "/devices/enrolments", {}).status_code == 403


def test_a_session_ends_when_its_token_is_revoked(anyone: Browser, api: Callable[..., Any]) -> None:
    made = api("POST", "/v1/tokens", json={"name": "reader", "scopes": ["read"]})
    anyone.sign_in(made["token"])
    assert anyone.open("/").status_code == 200
    api("DELETE", f"/v1/tokens/{made['id']}")
    assert anyone.open("/").status_code == 303


def test_a_session_ends_with_the_rotated_secret_that_it_was_made_with(
    anyone: Browser, api: Callable[..., Any]
) -> None:
    made = api("POST", "/v1/tokens", json={"name": "reader", "scopes": ["read"]})
    rotate = f"/v1/tokens/{made['id']}/rotate"
    anyone.sign_in(made["token"])
    renewed = api("POST", rotate, json={"grace_seconds": 3600})["token"]
    assert anyone.open("/").status_code == 200, "the old secret has its grace"
    api("POST", rotate, json={"grace_seconds": 0})
    assert anyone.open("/").status_code == 303
    assert anyone.sign_in(renewed).status_code == 401
    newest = api("POST", rotate, json={"grace_seconds": 0})["token"]
    assert anyone.sign_in(newest).status_code == 303
    assert anyone.open("/").status_code == 200


def test_a_link_ends_with_the_secret_that_asked_for_it(
    anyone: Browser, app: FastAPI, api: Callable[..., Any]
) -> None:
    made = api("POST", "/v1/tokens", json={"name": "reader", "scopes": ["read"]})
    with TestClient(app, headers=bearer(made["token"])) as reader:
        path = reader.post("/v1/sign-in-codes").json()["path"]
    api("POST", f"/v1/tokens/{made['id']}/rotate", json={"grace_seconds": 0})
    assert anyone.send(path, "/signin", {}).status_code == 401


def test_a_live_page_ends_with_its_session(
    browser: Browser, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[None] = []

    async def signed_out_meanwhile(_: Request) -> None:
        naps.append(None)
        with app.state.database.write() as session:
            session.execute(delete(WebSession))

    monkeypatch.setattr(live, "_nap", signed_out_meanwhile)
    monkeypatch.setattr(live, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(live, "LONGEST_SECONDS", 2.0)
    assert browser.open("/home/events").status_code == 200
    assert len(naps) == 1


def test_what_is_done_on_pages_is_in_the_audit_log(
    browser: Browser, api: Callable[..., Any], agent: FakeAgent, space_id: str
) -> None:
    fields = {"space": space_id, "device": "board", "provider": "CPUExecutionProvider"}
    numbers = {"threads": "1", "batch": "1", "precision": "fp32", "count": "20"}
    made = browser.send("/campaigns/new", "/campaigns", {**fields, **numbers})
    assert made.status_code == 303, made.text
    path = made.headers["location"]
    assert browser.send(path, f"{path}/cancel", {}).status_code == 303
    shown = browser.send("/devices", "/devices/enrolments", {})
    assert "latency-service agent --server http://testserver --token" in shown.text
    actions = [entry["action"] for entry in api("GET", "/v1/audit")]
    assert actions[:3] == ["enrolment.create", "campaign.cancel", "campaign.create"]


def test_a_campaign_that_cannot_be_started_comes_back_with_the_reason(
    browser: Browser, agent: FakeAgent, space_id: str
) -> None:
    answer = browser.send("/campaigns/new", "/campaigns", {"space": space_id, "goal": "much"})
    assert answer.status_code == 422
    assert "is no number" in answer.text
    assert 'value="much"' in answer.text
