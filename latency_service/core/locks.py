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


class GivingWay:
    """Pauses work that goes on in short steps while another process has the turn: call it before
    each step.

    It holds nothing itself, so that it keeps nobody waiting. It waits for `WAIT_SECONDS` at most,
    and then works for as long as it has waited before it waits as long again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._patience_seconds = WAIT_SECONDS
        self._left_at = clock()

    def __call__(self) -> None:
        began = self._clock()
        worked = began - self._left_at
        self._patience_seconds = min(WAIT_SECONDS, self._patience_seconds + worked)
        deadline = began + self._patience_seconds
        while self._clock() < deadline and _is_taken(lock_path()):
            time.sleep(_POLL_SECONDS)
        self._left_at = self._clock()
        self._patience_seconds -= self._left_at - began


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


def _is_taken(path: Path) -> bool:
    """Whether another process holds the lock file; False where that cannot be found out."""
    if os.name != "posix":
        return False
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # shared, so that those who look do not see each other
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return False
    finally:
        os.close(descriptor)


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
