"""A service under attack, watched from outside: stalls of `/healthz`, memory, restarts."""

from __future__ import annotations

import http.client
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import psutil

#: Pause between two looks at `/healthz`.
LOOK_SECONDS = 0.01


@dataclass(kw_only=True)
class Watch:
    """What another process has seen of a service."""

    pid: int
    #: Private memory before anything was sent, bytes.
    before_bytes: int
    #: Longest time that `/healthz` took to answer, s; looks at it, and those without an answer.
    longest_seconds: float = 0.0
    looks: int = 0
    unanswered: int = 0
    peak_bytes: int = 0
    #: Answers of `/healthz` that took longer than a tenth of a second, s.
    stalls: list[float] = field(default_factory=list)

    @property
    def grown_bytes(self) -> int:
        """Memory that the process has now and did not have before."""
        return _memory(self.pid) - self.before_bytes


@contextmanager
def watching(url: str, pid: int) -> Iterator[Watch]:
    """Look at a service every 10 ms, from a process of its own, while the context lasts."""
    watch = Watch(pid=pid, before_bytes=_memory(pid))
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    context = multiprocessing.get_context("spawn")
    watcher = context.Process(target=_look, args=(url, pid, theirs), daemon=True)
    watcher.start()
    ours.recv()  # it looks
    try:
        yield watch
    finally:
        ours.send("enough")
        found = ours.recv() if ours.poll(30) else {}
        watcher.join(10)
        for name, value in found.items():
            setattr(watch, name, value)


def _look(url: str, pid: int, pipe: Connection) -> None:
    address = urlsplit(url)
    times: list[float] = []
    unanswered = peak = 0
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    pipe.send("looking")
    while not pipe.poll():
        began = time.perf_counter()
        try:
            connection.request("GET", "/healthz")
            unanswered += connection.getresponse().read() != b'{"status":"ok"}'
        except OSError:
            unanswered += 1
            connection.close()
        times.append(time.perf_counter() - began)
        if len(times) % 10 == 0:
            peak = max(peak, _memory(pid))
        time.sleep(LOOK_SECONDS)
    pipe.send(
        {
            "longest_seconds": max(times),
            "looks": len(times),
            "unanswered": unanswered,
            "peak_bytes": peak,
            "stalls": [round(each, 3) for each in times if each > 0.1],
        }
    )


def _memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
