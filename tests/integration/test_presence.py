"""Which agents were heard of, stored together; and the cadence that a fleet is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.devices import repository
from latency_service.devices.models import Agent, Device
from latency_service.devices.presence import Presence, cadence_of
from latency_service.devices.schemas import HeartbeatRequest
from latency_service.settings import Settings
from tests.support.settings import POSTGRESQL_ONLY

BEAT = HeartbeatRequest(state="measuring", load=0.5, temperature_c=61.0)
IDLE = HeartbeatRequest(state="idle", load=0.1, temperature_c=40.0)


@pytest.fixture
def presence(database: Database, settings: Settings) -> Presence:
    return Presence(database, settings.model_copy(update={"presence_seconds": 1.0}))


@pytest.fixture
def silent(database: Database, agent: FakeAgent) -> FakeAgent:
    """An agent that was not heard of for an hour."""
    with database.write() as session:
        session.execute(update(Agent).values(last_seen_at=utcnow(-3600)))
        session.execute(update(Device).values(last_seen_at=utcnow(-3600)))
    return agent


def shown(api: TestClient) -> dict[str, object]:
    view = api.get("/v1/devices/board").json()
    return {"online": view["online"], "state": view["agents"][0]["state"]}


def test_what_was_heard_is_stored_together(
    api: TestClient, presence: Presence, silent: FakeAgent
) -> None:
    presence.note(silent.id, BEAT)
    assert shown(api) == {"online": False, "state": "idle"}
    presence.store()
    assert shown(api) == {"online": True, "state": "measuring"}


def test_a_poll_after_a_heartbeat_keeps_what_it_told(
    api: TestClient, presence: Presence, silent: FakeAgent
) -> None:
    presence.note(silent.id, BEAT)
    presence.note(silent.id)
    presence.store()
    assert shown(api) == {"online": True, "state": "measuring"}


def test_what_cannot_be_stored_is_stored_later(
    api: TestClient,
    presence: Presence,
    database: Database,
    silent: FakeAgent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def away() -> Iterator[Session]:
        raise OperationalError("", {}, Exception("away"))
        yield

    presence.note(silent.id, BEAT)
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", away)
        with pytest.raises(OperationalError):
            presence.store()
    presence.store()
    assert shown(api)["online"] is True


def test_a_report_that_cannot_be_stored_is_neither_lost_nor_newer_than_the_next(
    api: TestClient,
    presence: Presence,
    database: Database,
    silent: FakeAgent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for newer, state in ((None, "measuring"), (IDLE, "idle")):

        @contextmanager
        def away(newer: HeartbeatRequest | None = newer) -> Iterator[Session]:
            presence.note(silent.id, newer)
            raise OperationalError("", {}, Exception("away"))
            yield

        presence.note(silent.id, BEAT)
        with monkeypatch.context() as patched:
            patched.setattr(database, "write", away)
            with pytest.raises(OperationalError):
                presence.store()
        presence.store()
        assert shown(api) == {"online": True, "state": state}


def test_an_older_report_is_not_stored_after_a_newer_one(
    presence: Presence, database: Database, silent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    stored: list[str] = []

    def store_heard(_: Session, heard: Any) -> set[str]:
        state = heard[silent.id].state
        if state == BEAT.state:
            begun.set()
            assert go_on.wait(30)
        stored.append(state)
        return set(heard)

    # without a SQLite file's lock, which would keep the order by itself
    monkeypatch.setattr(database, "write", nullcontext)
    monkeypatch.setattr(repository, "store_heard", store_heard)
    presence.note(silent.id, BEAT)
    older = threading.Thread(target=presence.store)
    older.start()
    assert begun.wait(30)
    presence.note(silent.id, IDLE)
    newer = threading.Thread(target=presence.store)
    newer.start()
    newer.join(0.2)
    go_on.set()
    older.join(30)
    newer.join(30)
    assert stored == [BEAT.state, IDLE.state]


@POSTGRESQL_ONLY
def test_a_report_of_an_agent_whose_row_is_held_is_stored_later(
    api: TestClient, presence: Presence, database: Database, silent: FakeAgent
) -> None:
    presence.note(silent.id, BEAT)
    with database.write() as session:
        session.execute(select(Agent).with_for_update())
        presence.store()
    assert shown(api)["state"] == "idle"
    presence.store()
    assert shown(api) == {"online": True, "state": "measuring"}


def test_many_agents_are_stored_in_one_transaction(
    api: TestClient, presence: Presence, database: Database, enrol: Callable[..., str]
) -> None:
    agents = [FakeAgent(api, enrol(), f"board{number}") for number in range(5)]
    for agent in agents:
        presence.note(agent.id, BEAT)
    committed: list[int] = []
    with database.told_of_commits(lambda: committed.append(threading.get_ident())):
        presence.store()
        presence.store()
    # other threads store the last use of tokens
    assert committed.count(threading.get_ident()) == 1


def test_a_heartbeat_tells_the_cadence(agent: FakeAgent, settings: Settings) -> None:
    answer = agent.request("POST", "/v1/agents/me/heartbeat", json={"state": "idle"})
    cadence = answer.json()["cadence"]
    assert cadence["heartbeat_seconds"] == settings.heartbeat_seconds
    assert cadence["wait_seconds"] == 25.0


@pytest.mark.parametrize(
    ("agents", "heartbeat", "wait"),
    [(1, 15.0, 25.0), (180, 15.0, 25.0), (600, 50.0, 50.0), (100_000, 300.0, 60.0)],
)
def test_a_larger_fleet_asks_more_rarely(agents: int, heartbeat: float, wait: float) -> None:
    cadence = cadence_of(agents, Settings())
    assert (cadence.heartbeat_seconds, cadence.wait_seconds) == (heartbeat, wait)


def test_the_fleet_is_counted(presence: Presence, agent: FakeAgent, settings: Settings) -> None:
    assert presence.cadence.heartbeat_seconds == settings.heartbeat_seconds
    presence.count_fleet()
    assert presence._agents == 1
