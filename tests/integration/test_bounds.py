"""Numbers, texts and lists that are too large, and texts that no database keeps: each is a 422 that
names its limit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from tests.support.garbage import objects_so_far_apart
from tests.support.settings import SQLITE_ONLY

Measure = Callable[..., dict[str, Any]]
JSON = {"content-type": "application/json"}
#: Stands for a number that Python's JSON does not write.
MARK = 777.25
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"]
TOO_LARGE = ["1e308", "1e12"]


def send(
    ask: Callable[..., Any], method: str, path: str, body: Any, number: str | None = None
) -> tuple[int, str]:
    """Status and message of the answer to `body`, `MARK` in it replaced by `number`."""
    content = json.dumps(body)
    if number is not None:
        content = content.replace(str(MARK), number)
    answer = ask(method, path, content=content, headers=JSON)
    told = answer.json().get("error", {}) if answer.content else {}
    return answer.status_code, str(told.get("message", ""))


def campaign(known_id: str, **more: Any) -> dict[str, Any]:
    return {
        "space_id": known_id,
        "device": "board",
        "purpose": "measure",
        "widths": [[8, 8]],
        **more,
    }


@SQLITE_ONLY
@pytest.mark.parametrize(
    "more",
    [
        {"protocol": {"budget_seconds": MARK}},
        {"protocol": {"half_width": MARK}},
        {"protocol": {"round_ms": MARK}},
        {"purpose": "predictor", "widths": None, "at_most_seconds": MARK},
        {"purpose": "predictor", "widths": None, "goal_percent": MARK},
        {"protocol": {"min_rounds": MARK}},
        {"runtime": {"intra_threads": MARK}},
        {"batch_size": MARK},
    ],
    ids=json.dumps,
)
def test_a_number_that_cannot_be_meant_is_refused(
    api: TestClient, agent: FakeAgent, space_id: str, more: dict[str, Any]
) -> None:
    body = campaign(space_id, **more)
    for number in (*NO_NUMBERS, *TOO_LARGE, "-1", "0"):
        status, message = send(api.request, "POST", "/v1/campaigns", body, number)
        assert status == 422, number
        assert message


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 10**40])
def test_a_seed_fits_the_database(
    api: TestClient, agent: FakeAgent, space_id: str, seed: int
) -> None:
    status, message = send(api.request, "POST", "/v1/campaigns", campaign(space_id, seed=seed))
    assert status == 422
    assert "seed" in message


def test_the_largest_seed_is_taken(api: TestClient, agent: FakeAgent, space_id: str) -> None:
    assert api.post("/v1/campaigns", json=campaign(space_id, seed=2**62)).status_code == 201


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"device": "x" * 201}, "at most 200 characters"),
        ({"space_id": "a" * 100_000}, "at most 200 characters"),
        ({"runtime": {"provider": "x" * 1000}}, "at most 200 characters"),
        ({"widths": [[1] * 10_001]}, "at most 10000 items"),
        ({"widths": [[2**31, 8]]}, "less than or equal to 1000000"),
        ({"widths": [[8, 8]] * 20_001}, "20001 architectures; the maximum is 20000"),
        ({"widths": [[8, 8]] * 5001, "batch_size": 1}, "5001 jobs; the maximum is 5000"),
        ({"batch_size": 256, "protocol": {"max_rounds": 1000}}, "more than 60000"),
        ({"protocol": {"min_rounds": 9, "max_rounds": 8}}, "max_rounds is below min_rounds"),
        ({"widths": [[{}]] * 1000}, "widths.0.0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_campaign_that_is_too_large_names_its_limit(
    api: TestClient, agent: FakeAgent, space_id: str, more: dict[str, Any], words: str
) -> None:
    status, message = send(api.request, "POST", "/v1/campaigns", campaign(space_id, **more))
    assert status == 422
    assert words in message
    assert len(message) < 3000


@SQLITE_ONLY
@pytest.mark.parametrize(
    "changed",
    [
        {"agent_version": "x" * 1000},
        {"runtime_version": "x" * 1000},
        {"max_opset": 2**31},
        {"max_opset": -1},
        {"providers": ["x"] * 65},
        {"providers": ["x" * 201]},
        {"facts": {str(k): k for k in range(257)}},
        {"hardware_ids": ["x" * 201]},
        {"instance": "x" * 65},
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_an_agent_tells_about_itself_is_bounded(
    agent: FakeAgent, changed: dict[str, Any]
) -> None:
    status, _ = send(agent.request, "POST", "/v1/agents/register", {**agent.about, **changed})
    assert status == 422


@SQLITE_ONLY
@pytest.mark.parametrize("name", ["load", "temperature_c"])
def test_what_an_agent_feels_is_finite(agent: FakeAgent, name: str) -> None:
    body = {"state": "idle", name: MARK}
    for number in (*NO_NUMBERS, *TOO_LARGE):
        status, _ = send(agent.request, "POST", "/v1/agents/me/heartbeat", body, number)
        assert status == 422, number


@SQLITE_ONLY
@pytest.mark.parametrize("name", ["wall_seconds", "timed_seconds", "at_seconds"])
def test_durations_of_a_result_are_finite(agent: FakeAgent, measure: Measure, name: str) -> None:
    measure([[8, 8]])
    lease = agent.claim()
    assert lease is not None
    body = agent.result(lease)
    (body["results"][0]["rounds"][0] if name == "at_seconds" else body)[name] = MARK
    path = f"/v1/attempts/{lease['attempt_id']}/result"
    for number in (*NO_NUMBERS, "1e308", "-1"):
        assert send(agent.request, "PUT", path, body, number)[0] == 422, number
    assert agent.send(lease).status_code == 201


def run(space_id: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "r",
        "method": "m",
        "space_id": space_id,
        "predictor_id": None,
        "budget_ms": 1.0,
        "report": {},
        **more,
    }


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"report": nested(500)}, "nested more than 32 levels deep"),
        ({"report": {"a": "\ud800"}}, "half a surrogate pair"),
        ({"report": {"\udfff": 1}}, "half a surrogate pair"),
        ({"report": {"a": ["\0"]}}, "NUL character"),
        ({"name": "a\0b"}, "NUL character"),
        ({"report": {"a": [{}] * 300_001}}, "more than 300000 objects and lists"),
        ({"report": {"a": "x" * (4 << 20)}}, "The run is larger than 4194304 bytes"),
        ({"budget_ms": 1e308}, "budget_ms"),
        ({"method": "x" * 201}, "at most 200 characters"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_report_that_cannot_be_kept_is_refused(
    api: TestClient, space_id: str, more: dict[str, Any], words: str
) -> None:
    status, message = send(api.request, "POST", "/v1/runs", run(space_id, **more))
    assert status == (413 if "larger" in words else 422)
    assert words in message


def test_a_reports_numbers_are_finite(api: TestClient, space_id: str) -> None:
    body = run(space_id, report={"loss": [MARK]})
    for number in NO_NUMBERS:
        assert send(api.request, "POST", "/v1/runs", body, number)[0] == 422, number


def test_what_is_within_the_limits_is_kept(api: TestClient, space_id: str) -> None:
    report = {"deep": nested(29), "text": "\U0001f600 ü", "numbers": [1e308, -1e-320, 2**60]}
    answer = api.post("/v1/runs", json=run(space_id, report=report))
    assert answer.status_code == 201
    assert api.get(f"/v1/runs/{answer.json()['id']}").json()["report"] == report


@SQLITE_ONLY
@pytest.mark.parametrize(
    "content",
    [b"[" + b"{}," * 350_000 + b"{}]", b'{"widths": [' + b"{}," * 200_000 + b"{}]}", b"9" * 10**6],
    ids=["list", "widths", "digits"],
)
def test_a_prediction_of_nonsense_is_cheap(api: TestClient, content: bytes) -> None:
    with objects_so_far_apart():
        began = time.process_time()
        answer = api.post("/v1/predictors/x/predict", content=content)
        spent_seconds = time.process_time() - began
    assert answer.status_code in (404, 422)
    assert len(answer.content) < 3000
    assert spent_seconds < 2.0


def test_writers_wait_less_than_a_second_for_the_largest_campaign(
    app: FastAPI, api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    """CPU time of the transaction that queues as many jobs as a campaign may have."""
    with objects_so_far_apart():
        spent = _time_campaigns(api, space_id, database)
    assert len(spent) >= 3
    assert max(spent) < 1.0


def _time_campaigns(api: TestClient, space_id: str, database: Database) -> list[float]:
    spent = _time_writing(database)
    answer = api.post(
        "/v1/campaigns", json=campaign(space_id, widths=[[8, 8]] * 5000, batch_size=1)
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["jobs_total"] == 5000
    answer = api.post("/v1/campaigns", json=campaign(space_id, widths=[[8, 8]] * 20_000))
    assert answer.json()["architectures_total"] == 20_000
    answer = api.post(
        "/v1/campaigns",
        json=campaign(space_id, purpose="predictor", widths=None, count=20_000),
    )
    assert answer.status_code == 201, answer.text
    return spent


def _time_writing(database: Database) -> list[float]:
    """CPU seconds of each writing transaction from now on."""
    spent: list[float] = []
    write = database.write

    class Timed:
        def __init__(self) -> None:
            self._inner = write()

        def __enter__(self) -> Any:
            session = self._inner.__enter__()
            self._began = time.thread_time()
            return session

        def __exit__(self, *error: Any) -> Any:
            ended = self._inner.__exit__(*error)
            spent.append(time.thread_time() - self._began)
            return ended

    database.write = Timed  # type: ignore[method-assign, assignment]
    return spent
