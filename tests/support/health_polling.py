"""Polls a service's `/healthz` from another process while something is sent to the service, and
records response times and memory.
"""

from __future__ import annotations

import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

import psutil

#: Pause between two polls.
PAUSE_SECONDS = 0.01
#: Response times above this are listed one by one.
SLOW_SECONDS = 0.1
#: Longest wait for the polling process to start, and to hand over what it has recorded.
_LONGEST_SECONDS = 60.0


@dataclass(kw_only=True)
class HealthRecord:
    """Response times of `/healthz` and memory of a service."""

    pid: int
    #: Resident memory when the polling began.
    before_bytes: int
    #: Number of polls, and of those without an answer.
    polls: int = 0
    unanswered: int = 0
    longest_seconds: float = 0.0
    #: Response times above `SLOW_SECONDS`.
    slow_seconds: list[float] = field(default_factory=list)
    #: Highest resident memory.
    peak_bytes: int = 0

    @property
    def grown_bytes(self) -> int:
        """Resident memory of now above that of before."""
        return _memory(self.pid) - self.before_bytes


@contextmanager
def health_polled(url: str, pid: int) -> Iterator[HealthRecord]:
    """Poll `/healthz` while the context lasts; the record is complete after it.

    Raises:
        RuntimeError: The polling process fails.
    """
    record = HealthRecord(pid=pid, before_bytes=_memory(pid))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_poll, args=(url, pid, theirs), daemon=True)
    process.start()
    theirs.close()
    _received(ours)  # it polls
    try:
        yield record
    finally:
        ours.send("enough")
        for name, value in _received(ours).items():
            setattr(record, name, value)
        process.join(_LONGEST_SECONDS)


def _received(pipe: Connection) -> dict[str, Any]:
    try:
        if pipe.poll(_LONGEST_SECONDS):
            return dict(pipe.recv())
    except EOFError:
        pass
    raise RuntimeError("the process that polls /healthz has failed")


def _poll(url: str, pid: int, pipe: Connection) -> None:
    address = urlsplit(url)
    times: list[float] = []
    unanswered = peak = 0
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    pipe.send({})
    while not pipe.poll():
        began = time.perf_counter()
        try:
            connection.request("GET", "/healthz")
            unanswered += connection.getresponse().read() != b'{"status":"ok"}'
        except (OSError, http.client.HTTPException):
            unanswered += 1
            connection.close()
        times.append(time.perf_counter() - began)
        if len(times) % 10 == 0:
            peak = max(peak, _memory(pid))
        time.sleep(PAUSE_SECONDS)
    pipe.send(
        {
            "polls": len(times),
            "unanswered": unanswered,
            "longest_seconds": max(times, default=0.0),
            "slow_seconds": [round(each, 3) for each in times if each > SLOW_SECONDS],
            "peak_bytes": peak,
        }
    )


def _memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
