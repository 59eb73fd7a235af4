"""A database that goes away under a trainer: it waits, and publishes what it has trained once."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from sqlalchemy import select

from latency_service.agent.testing import FakeAgent
from latency_service.core import retry
from latency_service.db import engine
from latency_service.db.engine import Database
from latency_service.devices.models import Agent
from latency_service.settings import Settings
from latency_service.training import pipeline as training
from latency_service.training import worker
from latency_service.training.pipeline import Trained, TrainingSet
from tests.support.agents import eventually
from tests.support.databases import Clone, migrate, postgres_server, stopped
from tests.support.settings import POSTGRESQL_ONLY, SQLITE_ONLY
from tests.support.trainings import attempts, fake_train, predictors, queue_training, trainings

AWAY_SECONDS = 2.0
WIDTHS = [[a, b] for a in range(2, 6) for b in range(2, 6)]


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A PostgreSQL server that these tests alone use, since they stop it."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def database_url(dialect: str, request: pytest.FixtureRequest, clone_sqlite: Clone) -> str:
    if dialect == "sqlite":
        return clone_sqlite(True)
    server = request.getfixturevalue("server")
    name = f"d{uuid.uuid4().hex}"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    url = str(server.get_uri(database=name))
    migrate(url)
    return url


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_SECONDS", 0.5)


@dataclass
class Training:
    """The training, replaced: it ends when it is let go."""

    begun: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    count: int = 0

    def __call__(self, data: TrainingSet, *, progress: Any = None) -> Trained:
        self.count += 1
        self.begun.set()
        assert self.let_go.wait(30)
        return fake_train(data)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Training:
    made = Training()
    monkeypatch.setattr(training, "train", made)
    return made


@pytest.fixture
def measured(measure: Callable[..., dict[str, Any]], agent: FakeAgent) -> None:
    """Measurements to train on."""
    measure(WIDTHS)
    agent.work()


@contextmanager
def running(settings: Settings, stop: threading.Event) -> Iterator[Future[int]]:
    """A trainer of this process, and how it ends: at the block's end at the latest."""
    quick = {"poll_seconds": 0.02, "heartbeat_seconds": 0.1, "renew_seconds": 0.1}
    chosen = settings.model_copy(update={**quick, "log_json": True})
    with ThreadPoolExecutor(max_workers=1) as threads:
        ended = threads.submit(worker.run_trainer, chosen, stop)
        try:
            yield ended
        finally:
            stop.set()
        assert ended.result(10) == 0


def is_known(database: Database) -> bool:
    with database.read() as session:
        return session.scalar(select(Agent).where(Agent.kind == "trainer")) is not None


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    """The lines of the log about an event."""
    logged = [line for line in capsys.readouterr().err.splitlines() if f'"{event}"' in line]
    return [json.loads(line) for line in logged]


@POSTGRESQL_ONLY
def test_an_idle_trainer_waits_for_its_database(
    server: Any,
    database: Database,
    settings: Settings,
    measured: None,
    train: Training,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train.let_go.set()
    with running(settings, threading.Event()) as ended:
        eventually(lambda: is_known(database))
        with stopped(server):
            time.sleep(AWAY_SECONDS)
            assert not ended.done()
        database.dispose()
        queue_training(database)
        eventually(lambda: ended.done() or predictors(database))
    assert train.count == len(predictors(database)) == 1
    [line] = lines(capsys, "waiting_for_database")
    assert line["message"] == "The database does not answer."
    assert "LATENCY_SERVICE_DATABASE_URL" in line["cure"]


@POSTGRESQL_ONLY
def test_a_finished_training_is_published_when_the_database_is_back(
    server: Any,
    database: Database,
    settings: Settings,
    measured: None,
    train: Training,
    capsys: pytest.CaptureFixture[str],
) -> None:
    queue_training(database)
    with running(settings, threading.Event()) as ended:
        assert train.begun.wait(30)
        with stopped(server):
            train.let_go.set()
            time.sleep(AWAY_SECONDS)
            assert not ended.done()
        database.dispose()
        eventually(lambda: ended.done() or predictors(database))
    assert train.count == len(predictors(database)) == 1
    assert attempts(database) == [(1, "done")]
    logged = capsys.readouterr().err
    assert [logged.count(event) for event in ("waiting_for_database", "database_is_back")] == [1, 1]


@POSTGRESQL_ONLY
@pytest.mark.parametrize("is_trained", [False, True])
def test_a_trainer_that_waits_for_its_database_stops_at_once(
    server: Any,
    database: Database,
    settings: Settings,
    measured: None,
    train: Training,
    is_trained: bool,
) -> None:
    stop = threading.Event()
    if is_trained:
        queue_training(database)
    with running(settings, stop) as ended:
        eventually(train.begun.is_set if is_trained else lambda: is_known(database))
        with stopped(server):
            train.let_go.set()
            time.sleep(1.0)
            stop.set()
            assert ended.result(3) == 0


@SQLITE_ONLY
def test_a_finished_training_waits_for_a_file_that_is_locked(
    database: Database,
    settings: Settings,
    measured: None,
    train: Training,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 100)
    queue_training(database)
    with running(settings, threading.Event()) as ended:
        assert train.begun.wait(30)
        with closing(sqlite3.connect(str(database.engine.url.database))) as other:
            other.execute("BEGIN IMMEDIATE")
            train.let_go.set()
            time.sleep(AWAY_SECONDS)
            assert not ended.done()
            other.rollback()
        eventually(lambda: ended.done() or predictors(database))
    assert train.count == len(trainings(database, "done")) == 1
    [line] = lines(capsys, "waiting_for_database")
    assert line["code"] == "database_busy"
