from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError
from structlog.testing import capture_logs

from latency_service.core import retry
from latency_service.core.retry import Stopped
from latency_service.db import patience as patience_module
from latency_service.db.patience import Patience

AWAY = OperationalError("SELECT 1", {}, psycopg.OperationalError("connection refused"))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LONGEST_SECONDS", 0.01)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(patience_module, "GRACE_SECONDS", 0.5)


def failing(times: int, error: Exception = AWAY) -> Callable[[], str]:
    """Work that fails so many times."""
    left = [error] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


def test_work_is_repeated_until_the_database_is_back() -> None:
    with capture_logs() as logs:
        assert Patience().outlast(failing(5), threading.Event()) == "done"
    begin, end = logs
    assert begin == {
        "event": "waiting_for_database",
        "log_level": "error",
        "code": "database_unavailable",
        "message": "The database does not answer.",
        "cure": "See that LATENCY_SERVICE_DATABASE_URL is right and the database runs, then try "
        "again.",
        "error": "connection refused",
    }
    assert end["event"] == "database_is_back"


def test_work_that_succeeds_leaves_no_line() -> None:
    with capture_logs() as logs:
        assert Patience().outlast(failing(0), threading.Event()) == "done"
    assert logs == []


def test_threads_that_meet_the_same_fault_log_it_once() -> None:
    patience = Patience()
    away = threading.Event()
    away.set()
    done: list[str] = []

    def work() -> str:
        if away.is_set():
            raise AWAY
        return "done"

    threads = [
        threading.Thread(target=lambda: done.append(patience.outlast(work, threading.Event())))
        for _ in range(3)
    ]
    with capture_logs() as logs:
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        away.clear()
        for thread in threads:
            thread.join(10)
    assert done == ["done"] * 3
    assert [line["event"] for line in logs] == ["waiting_for_database", "database_is_back"]


@pytest.mark.parametrize(
    "error", [ValueError("bad"), ProgrammingError("SELECT", {}, psycopg.errors.SyntaxError("bad"))]
)
def test_another_error_is_not_outlasted(error: Exception) -> None:
    with pytest.raises(type(error)):
        Patience().outlast(failing(1, error), threading.Event())


def test_waiting_ends_with_the_process() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(Stopped):
        Patience().outlast(failing(1_000_000), stop)


def test_work_that_hangs_does_not_outlive_the_process() -> None:
    stop, hang = threading.Event(), threading.Event()
    stop.set()
    began = time.monotonic()
    with pytest.raises(Stopped):
        Patience().outlast(lambda: hang.wait(20), stop)
    assert time.monotonic() - began < 5
    hang.set()


def test_work_that_is_begun_when_the_process_stops_is_tried_once() -> None:
    stop = threading.Event()
    stop.set()
    slow = threading.Event()
    assert Patience().outlast(lambda: slow.wait(0.2), stop) is False
    with pytest.raises(Stopped):
        Patience().outlast(failing(1), stop)
