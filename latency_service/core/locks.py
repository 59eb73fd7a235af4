"""Locks between processes: turns on a machine, and one owner of a folder.

Both are held until their block or their process ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from latency_service.core.files import write_whole

#: Longest wait for a turn.
WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.1


class AlreadyRunning(Exception):
    """Another process holds the folder; the message is its process id."""


def lock_path() -> Path:
    """One file for all services of this user, in whichever folders they run."""
    return Path(tempfile.gettempdir()) / f"latency-service-{os.getuid()}.lock"


@contextmanager
def turn(stop: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Whether the machine is the caller's own while the block runs.

    Training beside a measurement slows it, and the canaries not by as much. One process has the
    turn at a time. The others wait, but not for ever: a long campaign must not hold up training,
    nor a long training a measurement.

    Args:
        stop: polled ten times a second; a true value ends the wait.
    """
    if os.name != "posix":  # elsewhere nobody waits
        yield False
        return
    lock = FileLock(lock_path(), mode=0o600)
    try:
        yield _acquire(lock, stop)
    finally:
        lock.release()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process while the block runs.

    Raises:
        AlreadyRunning: another process holds it.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    holder = folder / "pid"
    with try_lock(folder / "lock") as is_held:
        if not is_held:
            raise AlreadyRunning(holder.read_text() if holder.exists() else "unknown")
        write_whole(holder, str(os.getpid()).encode())
        yield


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock file while the block runs; it never waits.

    Raises:
        OSError: the file cannot be opened.
    """
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _acquire(lock: FileLock, stop: Callable[[], object]) -> bool:
    """Whether the lock was acquired in time; False too where no lock file can be opened."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if time.monotonic() >= deadline or stop():
                return False
            time.sleep(_POLL_SECONDS)
        except OSError:
            return False
        else:
            return True
