"""Runs that are followed while they go on, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from latency_service.db.engine import Database
from latency_service.runs.models import RunEntry

VERIFICATION = {
    "stage": "structure",
    "widths": [8, 8],
    "predicted_ms": 1.0,
    "latency_ms": 1.1,
    "lower_ms": 1.0,
    "upper_ms": 1.2,
    "verdict": "ok",
    "measurement_id": "m1",
}


@pytest.fixture
def run_id(api: TestClient, space_id: str) -> str:
    body = {
        "name": "net",
        "method": "w-gates",
        "space_id": space_id,
        "predictor_id": None,
        "budget_ms": 1.2,
        "dense_ms": 2.0,
    }
    answer = api.post("/v1/runs", json=body)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["state"], answer.json()["report"]) == ("running", None)
    return str(answer.json()["id"])


def entries(first: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"phase": "prune", "step": first + at, "loss": 1.0, **more} for at in range(count)]


def send(api: TestClient, run_id: str, first: int, news: list[dict[str, Any]], **more: Any) -> int:
    body = {"phase": "prune", "done": 3, "total": 9, "first": first, "entries": news, **more}
    return api.put(f"/v1/runs/{run_id}/progress", json=body).status_code


def steps(api: TestClient, run_id: str) -> list[int]:
    return [step["at"] for step in api.get(f"/runs/{run_id}.json").json()["steps"]]


def test_progress_shows_at_once(api: TestClient, run_id: str) -> None:
    assert send(api, run_id, 0, entries(1, 3), verifications=[VERIFICATION]) == 204
    view = api.get(f"/runs/{run_id}.json").json()
    assert (view["summary"]["phase"], view["done"], view["total"]) == ("prune", 3, 9)
    assert [step["at"] for step in view["steps"]] == [1, 2, 3]
    assert view["verified"][0]["latency_ms"] == 1.1


def test_progress_that_is_sent_twice_is_stored_once(api: TestClient, run_id: str) -> None:
    for _ in range(2):
        assert send(api, run_id, 0, entries(1, 3)) == 204
    assert send(api, run_id, 3, entries(4, 2)) == 204
    assert steps(api, run_id) == [1, 2, 3, 4, 5]


def test_a_resumed_training_replaces_what_came_after_its_checkpoint(
    api: TestClient, run_id: str
) -> None:
    send(api, run_id, 0, entries(1, 5))
    send(api, run_id, 2, entries(3, 1))
    assert steps(api, run_id) == [1, 2, 3]


def test_entries_that_would_leave_a_gap_are_refused(api: TestClient, run_id: str) -> None:
    assert send(api, run_id, 4, entries(5, 1)) == 409
    assert steps(api, run_id) == []


def test_what_a_method_adds_to_an_entry_is_kept(
    api: TestClient, run_id: str, database: Database
) -> None:
    send(api, run_id, 0, entries(1, 1, multiplier=0.25))
    with database.read() as session:
        assert session.scalar(select(RunEntry.entry))["multiplier"] == 0.25  # type: ignore[index]


def test_the_report_ends_a_run_and_holds_its_history(
    api: TestClient, run_id: str, database: Database
) -> None:
    send(api, run_id, 0, entries(1, 3), verifications=[VERIFICATION])
    report = {"outcome": "met", "history": entries(1, 4), "verifications": [VERIFICATION]}
    for _ in range(2):
        answer = api.put(f"/v1/runs/{run_id}/report", json={"report": report})
        assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["summary"]["outcome"]) == ("done", "met")
    assert steps(api, run_id) == [1, 2, 3, 4]
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(RunEntry)) == 0
    assert send(api, run_id, 4, entries(5, 1)) == 409


def test_a_run_that_failed_says_why_and_goes_on_when_it_is_resumed(
    api: TestClient, run_id: str
) -> None:
    failure = api.put(f"/v1/runs/{run_id}/failure", json={"message": "BudgetError: too low."})
    assert failure.status_code == 204
    view = api.get(f"/v1/runs/{run_id}").json()
    assert (view["state"], view["failure"]) == ("failed", "BudgetError: too low.")
    assert send(api, run_id, 0, entries(1, 1)) == 204
    view = api.get(f"/v1/runs/{run_id}").json()
    assert (view["state"], view["failure"]) == ("running", None)


def test_a_run_with_a_result_does_not_fail(api: TestClient, run_id: str) -> None:
    api.put(f"/v1/runs/{run_id}/report", json={"report": {}})
    failure = api.put(f"/v1/runs/{run_id}/failure", json={"message": "late"})
    assert failure.status_code == 409
    assert api.get(f"/v1/runs/{run_id}").json()["state"] == "done"


def test_a_report_with_figures_of_another_type_is_refused(api: TestClient, run_id: str) -> None:
    report = {"pruned": {"latency_ms": "fast"}}
    answer = api.put(f"/v1/runs/{run_id}/report", json={"report": report})
    assert answer.status_code == 422
    assert "pruned.latency_ms" in answer.json()["error"]["message"]
    assert api.get(f"/v1/runs/{run_id}").json()["state"] == "running"


def test_runs_that_are_not_known(api: TestClient) -> None:
    for path, body in (
        ("progress", {"phase": "prune"}),
        ("report", {"report": {}}),
        ("failure", {"message": "x"}),
    ):
        answer = api.put(f"/v1/runs/nothing/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_long_history_is_thinned_where_it_is_read(
    api: TestClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.dashboard.runs.pages.MOST_ENTRIES", 4)
    send(api, run_id, 0, entries(1, 10))
    assert steps(api, run_id) == [1, 4, 7, 10]
    assert api.get(f"/runs/{run_id}.json").json()["entries"] == 10
    assert api.get(f"/runs/{run_id}.csv").text.count("\n") == 11
    report = {"history": entries(1, 10)}
    assert api.put(f"/v1/runs/{run_id}/report", json={"report": report}).is_success
    assert steps(api, run_id) == [1, 4, 7, 10]
    assert api.get(f"/runs/{run_id}.csv").text.count("\n") == 11
