"""An artificial neighbour: busy processes that start and stop at random, and their times."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import NamedTuple, Self

PER_CORE = 2
#: Shortest and longest burst or pause, s.
SHORTEST = 0.5
LONGEST = 3.0
#: Program of a busy process. It ends with the benchmark, however that ends: a forgotten load would
#: be taken for the quiet machine.
_LOOP = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"


class Burst(NamedTuple):
    """Times of the monotonic clock, s."""

    #: Times before the first process was started, and when it ran.
    asked: float
    began: float
    #: Times before the first process was killed, and when the last one was gone.
    ended: float
    gone: float


class Load:
    """Starts and stops two busy processes per core at random while its context is active."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.bursts: list[Burst] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(SHORTEST, LONGEST)):
            asked = time.monotonic()
            busy = [_busy()]
            began = time.monotonic()
            busy += [_busy() for _ in range(PER_CORE * (os.cpu_count() or 1) - 1)]
            self._stop.wait(self._random.uniform(SHORTEST, LONGEST))
            ended = time.monotonic()
            for process in busy:
                process.kill()
            for process in busy:
                process.wait()
            self.bursts.append(Burst(asked, began, ended, time.monotonic()))


def _busy() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", _LOOP, str(os.getpid())], start_new_session=True
    )
