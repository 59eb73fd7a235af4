from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from latency_service.db import engine
from latency_service.db.engine import Database
from latency_service.db.faults import BUSY, describe_fault
from latency_service.db.turns import WriterTurns
from latency_service.web.errors import answer_to

HOLD = """
import sys, time
from pathlib import Path
from latency_service.db.turns import WriterTurns
WriterTurns(Path(sys.argv[1])).take(10)
print("held", flush=True)
time.sleep(60)
"""

#: Longer than any turn here.
SECONDS = 60.0


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "service.db"


@pytest.fixture
def other_process(database: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a turn and does not end it."""
    command = [sys.executable, "-c", HOLD, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_threads_come_in_the_order_of_asking(database: Path) -> None:
    turns = WriterTurns(database)
    came: list[int] = []

    def write(number: int) -> None:
        turns.take(SECONDS)
        came.append(number)
        turns.end()

    turns.take(SECONDS)
    threads = []
    for number in range(8):
        threads.append(threading.Thread(target=write, args=(number,)))
        threads[-1].start()
        while len(turns._waiting) <= number:
            time.sleep(0.001)
    turns.end()
    for thread in threads:
        thread.join(10)
    assert came == list(range(8))


def test_a_turn_is_not_taken_beside_another_process(
    database: Path, other_process: subprocess.Popen[bytes]
) -> None:
    turns = WriterTurns(database)
    taken = threading.Event()

    def take() -> None:
        turns.take(SECONDS)
        taken.set()
        turns.end()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.3)
    other_process.kill()
    assert taken.wait(10), "the turn ends with its process"
    thread.join()


def test_a_turn_may_end_in_another_thread(database: Path) -> None:
    turns = WriterTurns(database)
    turns.take(SECONDS)
    thread = threading.Thread(target=turns.end)
    thread.start()
    thread.join()
    turns.take(SECONDS)
    turns.end()


def test_a_line_that_was_closed_opens_again(database: Path) -> None:
    turns = WriterTurns(database)
    for _ in range(2):
        turns.take(SECONDS)
        turns.end()
        turns.close()


def test_a_file_that_cannot_be_locked_holds_nobody_up(tmp_path: Path) -> None:
    turns = WriterTurns(tmp_path / "no such folder" / "service.db")
    for _ in range(2):
        turns.take(SECONDS)
        turns.end()


def test_a_database_in_memory_has_a_line_of_its_own() -> None:
    turns = WriterTurns(None)
    turns.take(SECONDS)
    turns.end()


def test_nobody_waits_without_end_for_another_process(
    database: Path, other_process: subprocess.Popen[bytes]
) -> None:
    turns = WriterTurns(database)
    before = threading.active_count()
    for _ in range(5):
        assert not turns.take(0.02)
    assert threading.active_count() == before + 1, "one place in the line is enough"
    assert all(not taken for taken in in_threads(turns, 3, 0.2)), "each of those behind, too"
    other_process.kill()
    assert turns.take(SECONDS), "places that were left let others pass"
    turns.end()
    assert WriterTurns(database).take(SECONDS)


def test_nobody_waits_without_end_for_another_thread(database: Path) -> None:
    turns = WriterTurns(database)
    turns.take(SECONDS)
    assert in_threads(turns, 3, 0.05) == [False] * 3
    turns.end()
    assert turns.take(SECONDS)
    turns.end()


def test_a_writer_that_gets_no_turn_is_told_that_the_database_is_busy(
    database: Path, other_process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    opened = Database(f"sqlite:///{database}")
    with pytest.raises(OperationalError) as caught, opened.write() as session:
        session.connection()
    answer = answer_to(caught.value, {"type": "http", "method": "POST", "path": "/v1/runs"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert describe_fault(caught.value) is BUSY
    other_process.kill()
    other_process.wait()
    monkeypatch.undo()
    with opened.write() as session:
        session.connection()
    opened.dispose()


def in_threads(turns: WriterTurns, count: int, timeout_seconds: float) -> list[bool]:
    """Whether each of several threads, waiting together, gets a turn."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(turns.take, [timeout_seconds] * count))
