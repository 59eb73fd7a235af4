"""Who is let in is decided before a byte of the body is read."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, event
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.core import tokens
from latency_service.inspection.inspector import AT_A_TIME, FOR_EACH, WAITING
from latency_service.settings import Settings
from tests.support.asgi import Answer, ask
from tests.support.settings import API_TOKEN, SQLITE_ONLY

pytestmark = SQLITE_ONLY
OPEN = {"/healthz", "/readyz"}
JSON = {"content-type": "application/json", "content-length": "31000000"}


def doors(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route that wants a token."""
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if path not in OPEN
    ]


@pytest.mark.parametrize(
    "headers", [{}, bearer("nonsense"), {"authorization": "Basic nonsense"}], ids=str
)
def test_without_a_valid_token_no_body_is_read(
    app: FastAPI, api: TestClient, headers: dict[str, str]
) -> None:
    unknown = [("POST", "/v1/nowhere"), ("PUT", "/v1/models"), ("BREW", "/v1/campaigns")]
    for number, (method, path) in enumerate([*doors(app), *unknown]):
        client = (f"192.0.2.{number}", 1)
        answer = ask(app, method, path, headers={**headers, **JSON}, client=client)
        assert (answer.status, answer.error["code"]) == (401, "unauthorised"), path
        assert "www-authenticate" in answer.headers


def test_without_the_scope_no_body_is_read(
    app: FastAPI, api: TestClient, agent: FakeAgent, enrolment: str
) -> None:
    refused = 0
    for method, path in doors(app):
        for token in (agent.token, enrolment, API_TOKEN):
            if api.request(method, path, headers=bearer(token)).status_code != 403:
                continue
            answer = ask(app, method, path, headers={**bearer(token), **JSON})
            assert (answer.status, answer.error["code"]) == (403, "forbidden"), path
            refused += 1
    assert refused > 40


def test_a_result_that_nobody_waits_for_is_not_read(
    app: FastAPI, api: TestClient, agent: FakeAgent
) -> None:
    headers = {**bearer(agent.token), **JSON}
    answer = ask(app, "PUT", "/v1/attempts/unknown/result", headers=headers)
    assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_large_bodies_of_all_share_memory(settings: Settings) -> None:
    """A small body is always read; when the first request has ended, there is room again."""
    narrow = settings.model_copy(update={"json_memory_bytes": 200_000})
    answers: list[Answer] = []
    with (
        TestClient(create_app(narrow), headers=bearer(API_TOKEN)) as client,
        ThreadPoolExecutor() as threads,
    ):
        app = client.app
        new = {"name": "x", "scopes": ["submit"]}
        other = bearer(client.post("/v1/tokens", json=new).json()["token"])

        def post(headers: dict[str, str], pieces: Iterable[bytes]) -> Answer:
            sent = {**headers, "content-type": "application/json"}
            return ask(app, "POST", "/v1/campaigns", headers=sent, pieces=pieces)

        def pieces() -> Iterator[bytes]:
            yield b"1" * 150_000
            for size in (60_000, 1_000):
                answers.append(threads.submit(post, other, [b"1" * size]).result())

        answers.append(post(bearer(API_TOKEN), pieces()))
        answers.append(post(other, [b"1" * 150_000]))
    assert [answer.status for answer in answers] == [503, 422, 422, 422]
    assert answers[0].error["code"] == "overloaded"
    assert "LATENCY_SERVICE_JSON_MEMORY_BYTES" in answers[0].error["cure"]


def test_malformed_json_without_a_token_is_401(api: TestClient) -> None:
    answer = api.post("/v1/campaigns", content=b"{", headers={"authorization": ""})
    assert answer.status_code == 401


def test_a_route_that_is_none_is_404_with_a_token_only(api: TestClient) -> None:
    assert api.get("/v1/nowhere").status_code == 404
    assert api.get("/v1/nowhere", headers={"authorization": ""}).status_code == 401


def test_pages_take_the_token_as_a_password(api: TestClient) -> None:
    password = base64.b64encode(f"me:{API_TOKEN}".encode()).decode()
    basic = {"authorization": f"Basic {password}"}
    for path in ("/docs", "/openapi.json", "/metrics"):
        refused = api.get(path, headers={"authorization": ""})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert api.get(path, headers=basic).status_code == 200
        assert api.get(path).status_code == 200
        wrong = base64.b64encode(b"me:wrong").decode()
        assert api.get(path, headers={"authorization": f"Basic {wrong}"}).status_code == 401
    assert api.get("/v1/devices", headers=basic).status_code == 401


def test_pages_are_open_where_the_settings_say_so(settings: Settings) -> None:
    opened = settings.model_copy(update={"open_docs": True, "open_metrics": True})
    with TestClient(create_app(opened)) as client:
        for path in ("/docs", "/openapi.json", "/metrics", "/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        assert client.get("/v1/devices").status_code == 401


def test_an_address_that_guesses_tokens_is_slowed_down(settings: Settings) -> None:
    strict = settings.model_copy(update={"refusals_per_second": 0.1, "refusals_burst": 3})
    app = create_app(strict)
    with TestClient(app):
        statuses = [ask(app, "GET", "/v1/devices").status for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        answer = ask(app, "GET", "/v1/devices", headers=bearer("guessed"))
        assert answer.status == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert "LATENCY_SERVICE_REFUSALS_PER_SECOND" in answer.error["cure"]
        assert ask(app, "GET", "/v1/devices", client=("192.0.2.2", 1)).status == 401
        # who has a token is not held liable for neighbours behind the same address
        assert ask(app, "GET", "/v1/devices", headers=bearer(API_TOKEN), pieces=[]).status == 200


@contextmanager
def looked_up(app: FastAPI) -> Iterator[list[None]]:
    """Grows with every transaction that reads or writes the database."""
    seen: list[None] = []
    engine = app.state.database.engine

    def note(_: Connection) -> None:
        seen.append(None)

    event.listen(engine, "begin", note)
    yield seen
    event.remove(engine, "begin", note)


COOKIE = "latency_session_default"
PAGE = {"accept": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded", "cookie": "latency_signin=form"}
#: A request with a secret that has the form of one, each a new one: headers, path and form.
GUESSES: dict[str, Callable[[], tuple[str, str, dict[str, str], bytes]]] = {
    "a token": lambda: ("GET", "/v1/devices", bearer(tokens.make("user")), b""),
    "a token to a page": lambda: ("GET", "/devices.json", bearer(tokens.make("user")), b""),
    "a cookie": lambda: ("GET", "/", {"cookie": f"{COOKIE}={tokens.make('user')}", **PAGE}, b""),
    "a form's token": lambda: (
        "POST",
        "/signin",
        FORM,
        f"csrf=form&token={tokens.make('user')}".encode(),
    ),
    "a form's code": lambda: (
        "POST",
        "/signin",
        FORM,
        f"csrf=form&code={tokens.make('user')}".encode(),
    ),
}


@pytest.mark.parametrize("kind", GUESSES)
def test_secrets_are_limited_before_they_are_looked_up(settings: Settings, kind: str) -> None:
    strict = settings.model_copy(update={"refusals_per_second": 0.1, "refusals_burst": 3})
    app = create_app(strict)

    def guess() -> Answer:
        method, path, headers, form = GUESSES[kind]()
        return ask(app, method, path, headers=headers, pieces=[form])

    with TestClient(app, headers=bearer(API_TOKEN)) as client:
        client.post("/v1/tokens", json={"name": "x", "scopes": ["read"]})
        assert [guess().status for _ in range(3)] == [401, 401, 401]
        with looked_up(app) as seen:
            answer = guess()
        assert (answer.status, seen) == (429, [])
        assert 1 <= int(answer.headers["retry-after"]) <= 10


def test_a_guess_that_is_right_is_not_counted(settings: Settings) -> None:
    strict = settings.model_copy(update={"refusals_per_second": 0.1, "refusals_burst": 2})
    app = create_app(strict)
    with TestClient(app, headers=bearer(API_TOKEN)) as client:
        sent = [
            client.post("/v1/tokens", json={"name": "x", "scopes": ["read"]}).json()
            for _ in range(4)
        ]
        known = [bearer(one["token"]) for one in sent]
        for headers in known:
            assert ask(app, "GET", "/v1/devices", headers=headers, pieces=[]).status == 200
        guessed = [
            ask(app, "GET", "/v1/devices", headers=bearer(tokens.make("user"))) for _ in range(3)
        ]
        assert [answer.status for answer in guessed] == [401, 401, 429]
        for headers in known:  # neighbours behind the same address go on
            assert ask(app, "GET", "/v1/devices", headers=headers, pieces=[]).status == 200
        client.delete(f"/v1/tokens/{sent[0]['id']}")
        assert ask(app, "GET", "/v1/devices", headers=known[0]).status == 401
        assert ask(app, "GET", "/v1/devices", headers=known[0]).status == 429


def test_a_token_has_a_rate(settings: Settings, tmp_path: Path) -> None:
    slow = settings.model_copy(update={"requests_per_second": 0.5, "requests_burst": 3})
    with TestClient(create_app(slow), headers=bearer(API_TOKEN)) as client:
        enrolment = client.post("/v1/enrolments").json()["token"]
        answers = [client.get("/v1/devices") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert "LATENCY_SERVICE_REQUESTS_PER_SECOND" in answers[-1].json()["error"]["cure"]
        other = client.get("/v1/devices", headers=bearer(enrolment))
        assert other.status_code == 403


def test_one_token_leaves_places_for_uploads_of_others(app: FastAPI, api: TestClient) -> None:
    other = api.post("/v1/tokens", json={"name": "x", "scopes": ["artifacts:write"]}).json()
    with ExitStack() as stack:
        for _ in range(FOR_EACH):
            stack.enter_context(app.state.inspector.place(other["id"]))
        answer = ask(app, "POST", "/v1/spaces", headers=bearer(other["token"]))
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert "of this token" in answer.error["message"]
        mine = ask(app, "POST", "/v1/spaces", headers=bearer(API_TOKEN), pieces=[b"none"])
        assert mine.status == 422


def test_pages_that_are_asked_for_by_token_count(settings: Settings) -> None:
    slow = settings.model_copy(update={"requests_per_second": 0.5, "requests_burst": 3})
    with TestClient(create_app(slow), headers=bearer(API_TOKEN)) as client:
        assert [client.get("/").status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/spaces"), ("PUT", f"/v1/models/{'0' * 64}")]
)
def test_no_upload_is_read_while_too_many_are(
    app: FastAPI, api: TestClient, method: str, path: str
) -> None:
    with ExitStack() as stack:
        for number in range(AT_A_TIME + WAITING):
            stack.enter_context(app.state.inspector.place(f"token-{number}"))
        answer = ask(app, method, path, headers=bearer(API_TOKEN))
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) > 0
    assert ask(app, method, path, headers=bearer(API_TOKEN), pieces=[b"none"]).status == 422
