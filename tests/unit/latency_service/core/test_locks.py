"""Measuring and training take turns on a machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from latency_service.core import locks
from latency_service.training import pipeline as training
from latency_service.training import worker

HOLD = (
    "from latency_service.core.locks import turn; c = turn(); print(c.__enter__(), "
    "flush=True); input()"
)
#: Training itself is replaced.
NOTHING: Any = None


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_another_process_has_to_wait_until_the_holder_has_ended_however_it_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        asked = []

        def stop() -> bool:
            asked.append(True)
            return len(asked) > 2

        with locks.turn(stop) as held:
            assert not held
        assert len(asked) == 3
        threading.Timer(0.3, holder.kill).start()
        with locks.turn() as held:
            assert held


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.2)
    with locks.turn() as first, locks.turn() as second:
        assert (first, second) == (True, False)
    with locks.turn() as again:
        assert again


def test_where_no_file_can_be_written_nobody_waits(tmp_path: Path) -> None:
    locks.lock_path().symlink_to(tmp_path / "elsewhere")
    with locks.turn() as held:
        assert not held
    assert not (tmp_path / "elsewhere").exists()


def test_the_trainer_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    began = []
    monkeypatch.setattr(training, "train", lambda data, progress: began.append(time.monotonic()))
    with locks.turn():
        thread = threading.Thread(
            target=worker._train, args=(NOTHING, threading.Event(), threading.Event())
        )
        thread.start()
        time.sleep(0.5)
        assert not began
        free_at = time.monotonic()
    thread.join(10)
    assert began[0] >= free_at


def test_a_trainer_that_stops_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "train", lambda data, progress: progress("features", 0.0))
    stop = threading.Event()
    stop.set()
    with locks.turn(), pytest.raises(worker.AttemptLost):
        worker._train(NOTHING, threading.Event(), stop)


def test_a_folder_has_one_owner_until_its_block_or_its_process_ends(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with (
        locks.lock_folder(folder),
        pytest.raises(locks.AlreadyRunning, match=str(os.getpid())),
        locks.lock_folder(folder),
    ):
        pass
    hold = (
        "import pathlib, sys; from latency_service.core.locks import lock_folder; "
        "c = lock_folder(pathlib.Path(sys.argv[1])); c.__enter__(); "
        "print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(locks.AlreadyRunning, match=str(holder.pid)), locks.lock_folder(folder):
            pass
        holder.kill()
    with locks.lock_folder(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


class Clock:
    """Seconds that pass only when somebody sleeps, or when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(locks.time, "sleep", made.sleep)
    return made


def test_work_in_steps_waits_while_another_process_has_the_turn() -> None:
    give_way = locks.GivingWay()
    give_way()  # nobody has it: there is no lock file
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        threading.Timer(0.5, holder.kill).start()
        began = time.monotonic()
        give_way()
        assert time.monotonic() - began >= 0.4
    give_way()
    with locks.turn() as held:
        assert held, "whoever gives way holds nothing"


def test_those_who_give_way_do_not_see_each_other(tmp_path: Path) -> None:
    with locks.turn():
        pass  # makes the file
    import fcntl

    with locks.lock_path().open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not locks._is_taken(locks.lock_path())


def test_work_that_gives_way_gets_half_of_the_time_at_least(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_is_taken", lambda _path: True)
    give_way = locks.GivingWay(clock)
    worked = 0.0
    for _ in range(1000):
        give_way()
        clock.now += 1.0
        worked += 1.0
    assert clock.now <= 2 * worked + locks.WAIT_SECONDS + 1


def test_a_short_measurement_is_waited_for_every_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds of every half minute are measured."""
    monkeypatch.setattr(locks, "_is_taken", lambda _path: clock.now % 30 < 10)
    give_way = locks.GivingWay(clock)
    for _ in range(1000):
        give_way()
        assert clock.now % 30 >= 9.9
        clock.now += 0.5
