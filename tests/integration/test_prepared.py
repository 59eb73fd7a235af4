"""Statements that are compiled once, for PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import String, bindparam, insert, select
from sqlalchemy.exc import ProgrammingError

from latency_service.db.engine import Database
from latency_service.db.prepared import Prepared
from latency_service.devices.models import Agent, Device
from latency_service.settings import Settings
from tests.support.settings import POSTGRESQL_ONLY

pytestmark = POSTGRESQL_ONLY

FACTS = {"cores": [0, 1], "clock": {"mhz": 2.5}, "governor": None}
THEIRS = (
    select(Agent.id, Agent.facts, Agent.temperature_c)
    .where(Agent.device_id == bindparam("its_device_id", type_=String()), Agent.kind == "device")
    .order_by(Agent.id)
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(Settings(database_url=database_url).url)
    with made.change() as connection:
        connection.execute(insert(Device), [{"id": one, "name": one} for one in ("a", "b")])
        connection.execute(insert(Agent), [agent("1", "a"), agent("2", "a"), agent("3", "b")])
    yield made
    made.dispose()


def agent(agent_id: str, device_id: str) -> dict[str, object]:
    about = {"agent_version": "0", "runtime_version": "0", "max_opset": 21, "providers": []}
    return {**about, "id": agent_id, "kind": "device", "device_id": device_id, "facts": FACTS}


def test_it_finds_what_the_statement_finds(database: Database) -> None:
    prepared = Prepared(THEIRS)
    with database.look() as connection:
        for device_id in ("a", "b", "a", "c"):
            given = {"its_device_id": device_id}
            found = prepared.execute(connection, given).all()
            assert found == connection.execute(THEIRS, given).all()
            assert [(row.id, row.facts) for row in found] == [
                (one, FACTS) for one in {"a": "12", "b": "3"}.get(device_id, "")
            ]


def test_a_value_that_is_not_given_is_an_error(database: Database) -> None:
    with database.look() as connection, pytest.raises(ProgrammingError, match="its_device_id"):
        Prepared(THEIRS).execute(connection, {})


def test_it_is_compiled_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Prepared(THEIRS)
    with database.look() as connection:
        first = prepared.execute(connection, {"its_device_id": "a"}).all()
        monkeypatch.setattr(THEIRS, "compile", None)
        assert prepared.execute(connection, {"its_device_id": "a"}).all() == first
