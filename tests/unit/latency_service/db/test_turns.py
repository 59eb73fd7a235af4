from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_service.db.turns import WriterTurns

HOLD = """
import sys, time
from pathlib import Path
from latency_service.db.turns import WriterTurns
WriterTurns(Path(sys.argv[1])).take()
print("held", flush=True)
time.sleep(60)
"""


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
        turns.take()
        came.append(number)
        turns.end()

    turns.take()
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
        turns.take()
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
    turns.take()
    thread = threading.Thread(target=turns.end)
    thread.start()
    thread.join()
    turns.take()
    turns.end()


def test_a_line_that_was_closed_opens_again(database: Path) -> None:
    turns = WriterTurns(database)
    for _ in range(2):
        turns.take()
        turns.end()
        turns.close()


def test_a_file_that_cannot_be_locked_holds_nobody_up(tmp_path: Path) -> None:
    turns = WriterTurns(tmp_path / "no such folder" / "service.db")
    for _ in range(2):
        turns.take()
        turns.end()


def test_a_database_in_memory_has_a_line_of_its_own() -> None:
    turns = WriterTurns(None)
    turns.take()
    turns.end()
