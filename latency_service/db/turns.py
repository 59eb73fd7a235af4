"""Turns at writing to a SQLite file, in the order of asking.

SQLite has one writer at a time, and those who wait for it look again after pauses that grow to
100 ms: among many writers the unlucky one waits for seconds. Here they wait in line instead: the
threads of a process first come, first served, and then the processes in the kernel, by a lock on a
file beside the database. Nobody waits without end: a writer may be stopped in its turn.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class WriterTurns:
    """The line before one database file. Thread-safe; a turn may end in another thread than the one
    that took it, and ends with the process that holds it, however that ends.

    Args:
        database: path of the database file; the lock file lies beside it. None for a database in
            memory, which no other process can open.
    """

    def __init__(self, database: Path | None) -> None:
        self._path = None if database is None else database.with_name(f"{database.name}-turn")
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._is_taken = False
        self._descriptor: int | None = None
        self._owner = 0
        #: Where this process still stands in line after a wait that was too long.
        self._place: _Place | None = None

    def take(self, timeout_seconds: float) -> bool:
        """Wait for a turn; False where none has come in that time, perhaps since the writer whose
        turn it is has been stopped.

        Where the lock file cannot be opened (a full disk, a file system that is read-only), the
        processes are left to SQLite's own locks: what the matter is shows when it writes.
        """
        deadline = time.monotonic() + timeout_seconds
        if not self._wait_in_process(timeout_seconds):
            return False
        try:
            is_locked = self._lock_file(deadline)
        except OSError:
            self.close()
            return True
        if not is_locked:
            self._call_next()
        return is_locked

    def end(self) -> None:
        """End the turn."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._call_next()

    def close(self) -> None:
        """Close the lock file; `take` opens it again."""
        descriptor = self._descriptor
        self._descriptor = None
        if descriptor is not None:
            os.close(descriptor)

    def _wait_in_process(self, timeout_seconds: float) -> bool:
        with self._mutex:
            if not self._is_taken:
                self._is_taken = True
                return True
            place = threading.Lock()
            place.acquire()
            self._waiting.append(place)
        if place.acquire(timeout=max(0.0, timeout_seconds)):
            return True
        with self._mutex:
            if place not in self._waiting:  # called at the last moment
                return True
            self._waiting.remove(place)
            return False

    def _call_next(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False

    def _lock_file(self, deadline: float) -> bool:
        if self._path is None or sys.platform == "win32":
            return True
        if self._descriptor is None or self._owner != os.getpid():
            # a forked process would share the lock of its parent
            self._descriptor = _open(self._path)
            self._owner = os.getpid()
            self._place = None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._stand_in_line(self._path, deadline)
        return True

    def _stand_in_line(self, path: Path, deadline: float) -> bool:
        place = self._place
        if place is None or not place.join():
            place = _Place(_open(path))
        self._place = place
        if not place.wait(deadline - time.monotonic()):
            return False
        self.close()
        self._place = None
        self._descriptor = place.descriptor
        return True


class _Place:
    """A place in the kernel's line of processes, which knows no time limit: a thread of its own
    stands there, and lets the next one pass when nobody waits for it any more.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._mutex = threading.Lock()
        self._is_awaited = True
        self._has_come = threading.Event()
        self._is_over = False
        threading.Thread(target=self._stand, name="writer's turn", daemon=True).start()

    def join(self) -> bool:
        """Wait here again; False where the lock has come and gone meanwhile."""
        with self._mutex:
            self._is_awaited = True
            return not self._is_over

    def wait(self, seconds: float) -> bool:
        """Whether the lock is held now; otherwise nobody waits here until somebody joins."""
        if self._has_come.wait(max(0.0, seconds)):
            return True
        with self._mutex:
            self._is_awaited = self._has_come.is_set()
            return self._is_awaited

    def _stand(self) -> None:
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        with self._mutex:
            if self._is_awaited:
                self._has_come.set()
            else:
                self._is_over = True
                os.close(self.descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
