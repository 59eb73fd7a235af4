"""A training is finished once: what counts when its lease has run out, an answer of the database is
lost, or publishing fails.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError, ProgrammingError
from structlog.testing import capture_logs

from latency_service.agent.testing import FakeAgent
from latency_service.core.errors import Gone
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs import claims
from latency_service.jobs import service as jobs_service
from latency_service.jobs.models import Attempt
from latency_service.jobs.sweeping import Sweeper
from latency_service.predictors import service as predictors_service
from latency_service.settings import Settings
from latency_service.training import pipeline as training
from latency_service.training import worker
from latency_service.training.pipeline import Trained, TrainingSet
from tests.support.trainings import (
    attempts,
    fake_train,
    predictors,
    queue_training,
    registered,
    trainings,
)

WIDTHS = [[a, b] for a in range(2, 6) for b in range(2, 6)]
GONE = OperationalError("COMMIT", {}, psycopg.OperationalError("the connection is lost"))


@pytest.fixture
def job_id(measure: Callable[..., dict[str, Any]], agent: FakeAgent, database: Database) -> str:
    """A training that waits."""
    measure(WIDTHS)
    agent.work()
    return queue_training(database)


@pytest.fixture
def trainer(database: Database) -> Iterator[str]:
    with registered(database) as agent_id:
        yield agent_id


@pytest.fixture
def train_next(
    database: Database, settings: Settings, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., bool]:
    """A function that carries the next training out, with a function that is called at its end."""

    def carry_out(at_end: Callable[[], object] = lambda: None) -> bool:
        def train(data: TrainingSet, *, progress: Any = None) -> Trained:
            at_end()
            return fake_train(data)

        monkeypatch.setattr(training, "train", train)
        return worker.train_next(database, settings, trainer, threading.Event())

    return carry_out


def end_leases(database: Database, settings: Settings) -> None:
    with database.write() as session:
        session.execute(
            update(Attempt).where(Attempt.state == "open").values(expires_at=utcnow(-1))
        )
    assert Sweeper(database, settings).sweep() == 1


def lose_an_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_due: Callable[[], object]
) -> None:
    """The answer to the first commit after which `is_due` holds does not arrive."""
    tell = database._tell_of_commit
    lost: list[bool] = []

    def break_off() -> None:
        tell()
        if not lost and is_due():
            lost.append(True)
            raise GONE

    monkeypatch.setattr(database, "_tell_of_commit", break_off)


def test_a_training_whose_lease_has_run_out_is_published_late(
    database: Database, settings: Settings, job_id: str, train_next: Callable[..., bool]
) -> None:
    assert train_next(lambda: end_leases(database, settings))
    assert attempts(database) == [(1, "late")]
    assert len(predictors(database)) == len(trainings(database, "done")) == 1
    assert not train_next(), "the training is not done again"


def test_a_late_training_cancels_the_attempt_that_followed_it(
    database: Database, settings: Settings, job_id: str, train_next: Callable[..., bool]
) -> None:
    with registered(database) as other:
        taken = []

        def overtake() -> None:
            end_leases(database, settings)
            taken.append(claims.claim_next(database, settings, other))

        assert train_next(overtake)
        [second] = taken
        assert second is not None
        with pytest.raises(Gone), database.change() as connection:
            jobs_service.renew(connection, settings, other, second.attempt_id)
    assert attempts(database) == [(1, "late"), (2, "cancelled")]
    assert len(predictors(database)) == 1


def test_a_training_of_a_cancelled_job_is_dropped(
    database: Database, job_id: str, train_next: Callable[..., bool]
) -> None:
    def cancel() -> None:
        with database.write() as session:
            jobs_service.cancel(session, job_id, "nobody wants it")

    assert train_next(cancel)
    assert attempts(database) == [(1, "cancelled")]
    assert predictors(database) == []


def test_a_predictor_is_stored_once_though_the_answer_to_its_commit_is_lost(
    database: Database,
    job_id: str,
    train_next: Callable[..., bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_an_answer(database, monkeypatch, lambda: predictors(database))
    with capture_logs() as logs:
        assert train_next()
    assert "training_dropped" not in [line["event"] for line in logs]
    assert attempts(database) == [(1, "done")]
    assert len(predictors(database)) == 1


def test_a_claim_whose_answer_is_lost_keeps_no_job(
    database: Database,
    job_id: str,
    train_next: Callable[..., bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lose_an_answer(database, monkeypatch, lambda: attempts(database))
    assert train_next()
    assert attempts(database) == [(1, "expired"), (2, "done")]
    assert len(predictors(database)) == 1


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("a bug"),
        ProgrammingError("INSERT", {}, psycopg.errors.UndefinedColumn("no such column: x")),
        OperationalError("INSERT", {}, sqlite3.OperationalError("no such column: x")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_publishing_that_can_never_succeed_fails_the_attempt(
    database: Database,
    job_id: str,
    train_next: Callable[..., bool],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(predictors_service, "publish", fail)
    assert [train_next() for _ in range(4)] == [True, True, True, False]
    assert attempts(database) == [(1, "failed"), (2, "failed"), (3, "failed")]
    [job] = trainings(database, "failed")
    assert job.failure_kind == "internal"
