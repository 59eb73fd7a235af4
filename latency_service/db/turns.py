"""Turns at writing to a SQLite file, in the order of asking.

SQLite has one writer at a time, and those who wait for it look again after pauses that grow to
100 ms: among many writers the unlucky one waits for seconds. Here they wait in line instead: the
threads of a process first come, first served, and then the processes in the kernel, by a lock on a
file beside the database.
"""

from __future__ import annotations

import os
import sys
import threading
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

    def take(self) -> None:
        """Wait for a turn.

        Where the lock file cannot be opened (a full disk, a file system that is read-only), the
        processes are left to SQLite's own locks: what the matter is shows when it writes.
        """
        self._wait_in_process()
        try:
            self._lock_file()
        except OSError:
            self.close()

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

    def _wait_in_process(self) -> None:
        with self._mutex:
            if not self._is_taken:
                self._is_taken = True
                return
            place = threading.Lock()
            place.acquire()
            self._waiting.append(place)
        place.acquire()

    def _call_next(self) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False

    def _lock_file(self) -> None:
        if self._path is None or sys.platform == "win32":
            return
        if self._descriptor is None or self._owner != os.getpid():
            # a forked process would share the lock of its parent
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._owner = os.getpid()
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
