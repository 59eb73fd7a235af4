"""Whose turn it is on this machine: training beside a measurement slows it, and the canaries not by
as much.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: After so long nobody waits any more.
WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.1


def lock_path() -> Path:
    """One file for all services of this user, whatever their folders."""
    return Path(tempfile.gettempdir()) / f"latency-service-{os.getuid()}.lock"


@contextmanager
def turn(stop: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Whether the machine is the caller's own while the block runs.

    One holds it at a time, until its block or its process ends. The others wait, but not for ever:
    a long campaign must not hold up training, nor a long training a measurement.

    Args:
        stop: asked ten times a second; anything true ends the waiting.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    descriptor = None
    if os.name == "posix":  # elsewhere nobody waits
        with suppress(OSError):
            descriptor = os.open(
                lock_path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
    if descriptor is None:
        yield False
        return
    try:
        held = _hold(descriptor)
        while not held and time.monotonic() < deadline and not stop():
            time.sleep(_POLL_SECONDS)
            held = _hold(descriptor)
        yield held
    finally:
        os.close(descriptor)


def _hold(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
