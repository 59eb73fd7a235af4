"""Processes of a run that are killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from latency_service.core.kill_points import VARIABLE

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
    # kills are not yet counted apart from failures
    "LATENCY_SERVICE_MAX_ATTEMPTS": "1000000",
    "OMP_NUM_THREADS": "1",
}


@dataclass(kw_only=True)
class Victim:
    """One process. Use from one thread."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    #: Point at which it kills itself, as ``NAME:N``; None when it does not.
    kill_point: str | None = field(default=None, init=False)
    #: Whether it was killed from outside since its start.
    was_killed: bool = field(default=False, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, kill_point: str | None = None) -> None:
        """Start it, again after its end."""
        self.kill_point = kill_point
        self.was_killed = False
        armed = {} if kill_point is None else {VARIABLE: kill_point}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env={**clean_environment(), **self.environment, **armed},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs and once it is buried; negative for a signal."""
        return None if self._process is None else self._process.poll()

    def bury(self) -> int:
        """The exit code of a process that has ended, for the last time."""
        assert self._process is not None
        code = self._process.wait()
        self._process = None
        return code

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self._process is not None and self._process.poll() is None:
            self.was_killed = self.was_killed or number is signal.SIGKILL
            self._process.send_signal(number)

    def end(self, number: signal.Signals, *, timeout_seconds: float = 20.0) -> None:
        """End it with a signal, by force where that takes too long."""
        if self._process is None:
            return
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


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
        command=(sys.executable, "-m", "latency_service", *words),
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
        self.command = (
            sys.executable,
            "-m",
            "benchmarks.support.chaos.agent",
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
        command=(),
        environment={},
        log=folder / f"{name}.log",
        device=device,
        state_dir=folder / name,
        server=server,
        history=folder / f"{name}.jsonl",
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that configures the service."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("LATENCY_SERVICE_")
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
