"""Child processes that are started, watched, restarted and stopped together: the mechanics of
`latency-service up`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import IO

from latency_service.core.parents import PARENT_VARIABLE

LOG_LIMIT_BYTES = 10 << 20


class GaveUp(Exception):
    """A child died again and again; `log_tail` holds its last lines."""

    def __init__(self, name: str, log: Path, log_tail: str) -> None:
        super().__init__(f"{name} keeps dying")
        self.name = name
        self.log = log
        self.log_tail = log_tail


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """A process to keep running, or to run once."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    #: its standard output and error are appended here; None for a program that runs once and
    #: writes where this process does
    log: Path | None
    #: open sockets that it inherits
    descriptors: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """When a dead child is started again. Times in seconds."""

    #: a child that dies younger has died quickly
    quick_seconds: float = 20.0
    #: so many quick deaths in a row, and it is given up
    max_quick_deaths: int = 5
    #: pause before the first restart; it doubles with each quick death
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 10.0

    def delay_seconds(self, quick_deaths: int) -> float:
        return min(
            self.max_delay_seconds, self.first_delay_seconds * 2.0 ** max(0, quick_deaths - 1)
        )


@dataclass(kw_only=True)
class Child:
    """One supervised process. Use from one thread: the one that lives as long as the children
    shall.
    """

    spec: ChildSpec
    policy: RestartPolicy
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    quick_deaths: int = field(default=0, init=False)
    _started_at: float = field(default=0.0, init=False)
    _restart_at: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Start the process in a session of its own, so that a terminal's Ctrl-C reaches the
        supervisor alone.
        """
        environment = {**self.spec.environment, PARENT_VARIABLE: str(os.getpid())}
        with open_log(self.spec.log) if self.spec.log else nullcontext() as log:
            self.process = subprocess.Popen(
                list(self.spec.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                env=environment,
                pass_fds=tuple(self.spec.descriptors),
                start_new_session=True,
            )
        self._started_at = self.clock()

    def tend(self) -> None:
        """Notice a death, and start the process again when its pause is over.

        Raises:
            GaveUp: it has died quickly too often.
        """
        if self.process is None:
            if self.clock() >= self._restart_at:
                self.start()
        elif self.process.poll() is not None:
            self._bury(self.process)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def finish(self, deadline: float) -> None:
        """Wait for the end until `deadline`, then force it on the process and all that it
        started.
        """
        if self.process is None:
            return
        try:
            self.process.wait(timeout=max(0.0, deadline - self.clock()))
        except subprocess.TimeoutExpired:
            self.say(f"{self.spec.name} did not stop in time and is killed")
        _kill_group(self.process.pid)
        self.process.wait()
        self.process = None

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process.pid)
        if self.spec.log is None:
            self.process, self._restart_at = None, inf
            return
        quick = self.clock() - self._started_at < self.policy.quick_seconds
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        if self.quick_deaths >= self.policy.max_quick_deaths:
            raise GaveUp(self.spec.name, self.spec.log, tail(self.spec.log))
        pause = self.policy.delay_seconds(self.quick_deaths)
        self.process, self._restart_at = None, self.clock() + pause
        self.say(
            f"{self.spec.name} ended ({_ending(process.returncode)}); starting it again in "
            f"{pause:.1f} s"
        )


class Supervisor:
    """Keeps children running. `stop` ends them in the reverse order of their start."""

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        policy: RestartPolicy | None = None,
        stop_seconds: float = 4.0,
    ) -> None:
        self._say = say
        self._policy = policy or RestartPolicy()
        self._stop_seconds = stop_seconds
        self.children: list[Child] = []

    def start(self, spec: ChildSpec) -> Child:
        child = Child(spec=spec, policy=self._policy, say=self._say)
        self.children.append(child)
        child.start()
        return child

    def tend(self) -> None:
        """Look after every child once; see `Child.tend`."""
        for child in self.children:
            child.tend()

    def run(self, stop: threading.Event, *, poll_seconds: float = 0.2) -> None:
        """Look after the children until `stop` is set."""
        while not stop.wait(poll_seconds):
            self.tend()

    def stop(self) -> None:
        """End all children: all but the first together, then the first, on which they depend."""
        first = self.children[:1]
        others = self.children[1:]
        for some in (others, first):
            for child in some:
                child.terminate()
            deadline = time.monotonic() + self._stop_seconds
            for child in some:
                child.finish(deadline)
        self.children.clear()


def open_log(path: Path) -> IO[bytes]:
    """The log file, to append to; one that has grown too large is set aside as ``NAME.1`` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a text file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ending(returncode: int) -> str:
    return f"exit code {returncode}" if returncode >= 0 else signal.Signals(-returncode).name
