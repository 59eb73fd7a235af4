"""Where jobs stand in the queue, and when they are expected to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from sqlalchemy.event import listen, remove
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs import places
from latency_service.jobs.models import Attempt
from tests.support.settings import SQLITE_ONLY
from tests.support.verifications import delivered, upload, verify

Measure = Callable[..., dict[str, Any]]
WIDTHS = [[8, 8], [4, 4], [12, 12]]


def shown(api: TestClient, campaign: dict[str, Any]) -> Any:
    return api.get(f"/v1/campaigns/{campaign['id']}").json()["queue"]


def test_a_campaign_waits_behind_what_was_queued_before(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    first = measure(WIDTHS, batch_size=1)
    second = measure([[6, 6]])
    assert shown(api, first) == {"jobs_ahead": 0, "expected_seconds": None}
    assert shown(api, second) == {"jobs_ahead": 3, "expected_seconds": None}
    agent.claim()
    assert shown(api, first)["jobs_ahead"] == 1, "the one at work"
    agent.work()
    assert shown(api, second) is None


def test_time_follows_from_the_devices_newest_attempts(
    api: TestClient, database: Database, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    agent.work()
    with database.write() as session:
        times = {"leased_at": utcnow(-100), "finished_at": utcnow(-60)}
        session.execute(update(Attempt).values(**times))
    waiting = shown(api, measure(WIDTHS, batch_size=1))
    assert waiting["jobs_ahead"] == 0
    assert abs(waiting["expected_seconds"] - 3 * 40) < 1


def test_a_verification_stands_before_campaigns(
    api: TestClient, agent: FakeAgent, measure: Measure, space_id: str
) -> None:
    measure(WIDTHS, batch_size=1)
    job = verify(api, space_id, upload(api, delivered((12, 8))), widths=[12, 8]).json()
    assert job["queue"] == {"jobs_ahead": 0, "expected_seconds": None}


@SQLITE_ONLY
def test_a_long_history_is_not_read_for_the_newest_attempts(
    api: TestClient, database: Database, agent: FakeAgent
) -> None:
    device_id = api.get("/v1/devices/board").json()["id"]
    asked: list[tuple[str, Any]] = []

    def note(*event: Any) -> None:
        asked.append((event[2], event[3]))

    with database.read() as session:
        listen(database.engine, "before_cursor_execute", note)
        assert places.recent_seconds(session, device_id, 20) == []
        remove(database.engine, "before_cursor_execute", note)
        statement, parameters = asked[-1]
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = " ".join(str(row[-1]) for row in plan)
    assert "ix_attempts_agent_id_leased_at" in steps
    assert "jobs" not in steps
