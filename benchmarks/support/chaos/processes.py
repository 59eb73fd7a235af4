"""Processes of a run that are killed, stopped and started again.

They are forked from a process that has imported everything: Python and its imports take a hundred
times as long to start as the service and the agent themselves.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from latency_service.core import kill_points
from latency_service.core.kill_points import VARIABLE
from latency_service.core.parents import PARENT_VARIABLE, die_with_parent
from tests.support.processes import clean_environment, free_port

#: Modules that the process has imported from which all are forked.
PRELOADED = (
    "benchmarks.support.chaos.history",
    "benchmarks.support.chaos.processes",
    "latency_service.agent.main",
    "latency_service.agent.testing",
    "latency_service.app",
    "latency_service.cli.main",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)
#: Longest wait for a replica to say that it is ready.
READY_SECONDS = 0.5
API_TOKEN = "chaos-runs-only-0123456789"
#: Leases and heartbeats short enough for a run to see many of them run out.
IMPATIENT = {
    "LATENCY_SERVICE_LEASE_SECONDS": "4",
    "LATENCY_SERVICE_RENEW_SECONDS": "1",
    "LATENCY_SERVICE_HEARTBEAT_SECONDS": "1",
    "LATENCY_SERVICE_POLL_SECONDS": "0.05",
    "LATENCY_SERVICE_LEASE_CHECK_SECONDS": "0.1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(kw_only=True)
class Victim:
    """One process. Use from one thread."""

    name: str
    #: Module that it runs, as ``python -m`` does, and the words of its command line.
    module: str
    words: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    #: Point at which it kills itself, as ``NAME:N``; None when it does not.
    kill_point: str | None = field(default=None, init=False)
    #: Whether it was killed from outside since its start.
    was_killed: bool = field(default=False, init=False)
    _process: BaseProcess | None = field(default=None, init=False)

    def start(self, kill_point: str | None = None) -> None:
        """Start it, again after its end."""
        self.kill_point = kill_point
        self.was_killed = False
        armed = {} if kill_point is None else {VARIABLE: kill_point}
        environment = clean_environment(**self.environment, **armed)
        self._process = _context().Process(
            target=_run, args=(self.module, list(self.words), environment, self.log), daemon=True
        )
        self._process.start()

    @property
    def is_running(self) -> bool:
        process = self._process
        return process is not None and process.pid is not None and process.exitcode is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs and once it is buried; negative for a signal."""
        return None if self._process is None else self._process.exitcode

    def bury(self) -> int:
        """The exit code of a process that has ended, for the last time."""
        assert self._process is not None
        code = self._process.exitcode
        assert code is not None
        self._process.close()
        self._process = None
        return code

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False where the process has ended."""
        pid = None if self._process is None else self._process.pid
        if pid is None or not self.is_running:
            return False
        self.was_killed = self.was_killed or number is signal.SIGKILL
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def end(self, number: signal.Signals, *, timeout_seconds: float = 20.0) -> None:
        """End it with a signal, by force where that takes too long."""
        if self._process is None:
            return
        self.send(signal.SIGCONT)
        self.send(number)
        self._process.join(timeout_seconds)
        if self.is_running:
            self.send(signal.SIGKILL)
            self._process.join()


@dataclass(kw_only=True)
class Replica(Victim):
    """A process of the service, on a port that it keeps."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=READY_SECONDS)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def replica(name: str, database_url: str, folder: Path) -> Replica:
    """A replica of the service, not started yet."""
    port = free_port()
    words = ("serve", "--port", str(port), "--data-dir", str(folder))
    return Replica(
        name=name,
        module="latency_service",
        words=words,
        environment={
            **IMPATIENT,
            "LATENCY_SERVICE_DATABASE_URL": database_url,
            "LATENCY_SERVICE_API_TOKEN": API_TOKEN,
        },
        log=folder / f"{name}.log",
        port=port,
    )


@dataclass(kw_only=True)
class SimulatedAgent(Victim):
    """A process of `benchmarks.support.chaos.agent`."""

    #: Name of its device.
    device: str
    state_dir: Path
    server: str
    history: Path

    @property
    def has_identity(self) -> bool:
        return (self.state_dir / "identity.json").exists()

    @property
    def undelivered(self) -> int:
        """Number of results that wait for their delivery."""
        return len(list(self.state_dir.glob("spool/*.json")))

    def enrol(self, token: str | None) -> None:
        """Give it an enrolment token for its next start; None takes it away."""
        given = () if token is None else ("--token", token)
        self.words = (
            *("--server", self.server),
            *("--name", self.device),
            *("--state-dir", str(self.state_dir)),
            *("--history", str(self.history)),
            *given,
        )


def simulated_agent(name: str, device: str, server: str, folder: Path) -> SimulatedAgent:
    """An agent of a device, not started yet."""
    return SimulatedAgent(
        name=name,
        module="benchmarks.support.chaos.agent",
        words=(),
        environment={},
        log=folder / f"{name}.log",
        device=device,
        state_dir=folder / name,
        server=server,
        history=folder / f"{name}.jsonl",
    )


@cache
def _context() -> ForkServerContext:
    """Starts processes from one that has imported what they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _run(module: str, words: list[str], environment: dict[str, str], log: Path) -> None:
    """Be ``python -m MODULE WORDS`` from now on; end with the process that started this one."""
    os.setsid()
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment, **{PARENT_VARIABLE: str(os.getppid())})
    die_with_parent()
    importlib.reload(kill_points)  # the environment chooses its point
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
