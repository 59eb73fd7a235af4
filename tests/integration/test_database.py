"""The database layer on both dialects: its clock, its types, its transactions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from latency_service.auth.models import Token
from latency_service.db.base import new_id, utcnow
from latency_service.db.engine import Database, make_engine
from latency_service.devices.models import Agent, Device
from latency_service.settings import Settings
from tests.support.settings import SQLITE_ONLY


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(Settings(database_url=database_url).url)
    yield made
    made.dispose()


def test_the_databases_clock_is_aware_and_right(database: Database) -> None:
    with database.read() as session:
        now, later = session.execute(select(utcnow(), utcnow(90.5))).one()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
    assert abs(later - now - timedelta(seconds=90.5)) < timedelta(seconds=0.1)


def test_instants_come_back_as_they_went_in(database: Database) -> None:
    moment = datetime(2025, 6, 1, 12, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
    with database.write() as session:
        session.add(Device(id="d", name="d", created_at=moment))
    with database.read() as session:
        stored = session.get_one(Device, "d").created_at
        assert (stored, stored.tzinfo) == (moment, UTC)
        assert session.scalar(select(Device.id).where(Device.created_at < utcnow())) == "d"
        assert session.scalar(select(Device.id).where(Device.created_at > utcnow(-60))) is None


def test_naive_instants_are_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="naive"), database.write() as session:
        session.add(Device(name="d", created_at=datetime(2025, 6, 1)))


def test_a_change_is_kept_whole_or_not_at_all_and_tells_when_it_is(database: Database) -> None:
    committed: list[str] = []

    def change(name: str, fails: bool) -> None:
        with database.change() as connection:
            connection.execute(insert(Device).values(id=name, name=name))
            if fails:
                raise KeyError(name)

    with database.told_of_commits(lambda: committed.append("commit")):
        change("kept", fails=False)
        assert len(committed) == 1
        with pytest.raises(KeyError):
            change("lost", fails=True)
        assert len(committed) == 1
    with database.read() as session:
        assert list(session.scalars(select(Device.id))) == ["kept"]


def test_a_unit_of_work_is_kept_whole_or_not_at_all(database: Database) -> None:
    def interrupted() -> None:
        with database.write() as session:
            session.add(Device(name="lost"))
            session.flush()
            raise KeyError("lost")

    with pytest.raises(KeyError):
        interrupted()
    with database.read() as session:
        session.add(Device(name="read only"))
        session.flush()
    with database.read() as session:
        assert session.scalars(select(Device)).all() == []


def test_references_are_enforced(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(Token(kind="agent", name="board", scopes=["agent"], agent_id="nobody"))


def test_what_must_belong_to_a_device_does(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(
            Agent(
                kind="device",
                agent_version="",
                runtime_version="",
                max_opset=0,
                providers=[],
                facts={},
            )
        )


def test_writers_wait_for_each_other(database: Database) -> None:
    with database.write() as session:
        session.add(Device(id="d", name="0"))

    def count(_: int) -> None:
        with database.write() as session:
            held = session.scalars(select(Device).where(Device.id == "d").with_for_update()).one()
            session.execute(update(Device).values(name=str(int(held.name) + 1)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(80)))
    with database.read() as session:
        assert session.get_one(Device, "d").name == "80"


@SQLITE_ONLY
def test_sqlite_keeps_a_log_and_enforces_references(database: Database) -> None:
    with database.read() as session:
        pragmas = [
            session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "synchronous")
        ]
    assert pragmas == ["wal", 1, 2]


def test_other_databases_are_refused() -> None:
    with pytest.raises(ValueError, match="LATENCY_SERVICE_DATABASE_URL"):
        make_engine("oracle://host/name")


def test_identifiers_sort_by_time() -> None:
    first = new_id()
    assert (len(first), int(first, 16) > 0) == (32, True)
    assert first[:12] <= new_id()[:12]
