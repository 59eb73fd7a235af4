"""Real processes of the service on real sockets, which a test starts, kills and starts again."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psutil

from latency_service.core.transport import ApiError, Transport
from latency_service.embedded.supervisor import tail
from tests.support import calibrations as calibration_files
from tests.support.certificates import Certificate

API_TOKEN = "acceptance-tests-only-0123456789"
#: Leases and beats short enough for a test to see them run out.
IMPATIENT = {
    "LATENCY_SERVICE_LEASE_SECONDS": "4",
    "LATENCY_SERVICE_RENEW_SECONDS": "1",
    "LATENCY_SERVICE_HEARTBEAT_SECONDS": "1",
    "LATENCY_SERVICE_POLL_SECONDS": "0.1",
    "LATENCY_SERVICE_LEASE_CHECK_SECONDS": "0.05",
    "OMP_NUM_THREADS": "1",
}


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that configures the service, and `more`."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("LATENCY_SERVICE_")
    }
    return {**inherited, **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Part:
    """One process: a command of `latency-service`, its output in a file."""

    words: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    command: Sequence[str] = (sys.executable, "-m", "latency_service")
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> Part:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *self.words],
                env=dict(self.environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def family(self) -> list[int]:
        """Process ids of it and of all that it started."""
        return [
            self.pid,
            *(child.pid for child in psutil.Process(self.pid).children(recursive=True)),
        ]

    def kill(self) -> None:
        """SIGKILL to the process itself, and to nothing that it started."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)


@dataclass
class Stage:
    """The processes of one test; `close` kills what is left of them."""

    folder: Path
    #: what agents have found out about this machine's canaries, for the agents of later tests
    calibrations: Path
    parts: list[Part] = field(default_factory=list)
    open: ExitStack = field(default_factory=ExitStack)

    def start(
        self, name: str, *words: str, command: Sequence[str] | None = None, **environment: str
    ) -> Part:
        part = Part(
            words, clean_environment(**{**IMPATIENT, **environment}), self.folder / f"{name}.log"
        )
        if command is not None:
            part.command = command
        self.parts.append(part)
        return part.start()

    def state_dir(self, name: str) -> Path:
        """A folder for an agent, which knows this machine's canaries if an agent has measured them
        before.
        """
        calibration_files.give(self.calibrations, self.folder / name)
        return self.folder / name

    def eventually(self, holds: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
        """The first true value of `holds`; refusals and no answer count as false. Fails with the
        logs' ends.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if value := holds():
                    return value
            except ApiError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(
            f"--- {log.name}\n{tail(log, 40)}" for log in sorted(self.folder.glob("*.log"))
        )

    def close(self) -> None:
        self.open.close()
        for found in self.folder.glob("*/calibration"):
            calibration_files.keep(found.parent, self.calibrations)
        for part in self.parts:
            if part.process is not None:
                family = part.family() if part.process.poll() is None else []
                part.kill()
                for pid in filter(is_alive, family):
                    os.kill(pid, signal.SIGKILL)


@dataclass
class Served:
    """A service (`latency-service serve`) on a port of its own, which it keeps when it is started
    again.
    """

    stage: Stage
    part: Part
    url: str
    api: Transport

    def wait_ready(self, seconds: float = 20.0) -> None:
        self.stage.eventually(
            lambda: self.api.request("GET", "/readyz"), f"{self.url} is ready", seconds
        )

    def get(self, path: str, **params: Any) -> Any:
        return self.api.request("GET", path, params=params).json()

    def post(self, path: str, body: Any = None) -> Any:
        return self.api.request("POST", path, json=body).json()

    def agent(
        self, name: str = "agent", device: str = "board", command: Sequence[str] | None = None
    ) -> Part:
        """Start an agent that measures as `device` for this service, and wait until it is
        online.
        """
        token = self.post("/v1/enrolments", {"device": device})["token"]
        options = (
            "--server",
            self.url,
            "--name",
            device,
            "--state-dir",
            str(self.stage.state_dir(name)),
        )
        part = self.stage.start(
            name, "agent", *options, command=command, LATENCY_SERVICE_ENROLMENT=token
        )
        self.stage.eventually(
            lambda: self.get(f"/v1/devices/{device}")["online"], f"{device} is online"
        )
        return part


def with_files(most: int) -> Sequence[str]:
    """The command of a service that may open so many files: a shell sets the limit for it alone."""
    return ("bash", "-c", f'ulimit -n {most}; exec "$0" -m latency_service "$@"', sys.executable)


def migrate(data_dir: Path, database_url: str) -> None:
    """`latency-service db upgrade`, as an operator would."""
    environment = clean_environment(
        LATENCY_SERVICE_DATABASE_URL=database_url, LATENCY_SERVICE_DATA_DIR=str(data_dir)
    )
    subprocess.run(
        [sys.executable, "-m", "latency_service", "db", "upgrade"],
        env=environment,
        check=True,
        timeout=60,
    )


def serve(
    stage: Stage,
    database_url: str,
    name: str = "serve",
    *,
    command: Sequence[str] | None = None,
    certificate: Certificate | None = None,
    **environment: str,
) -> Served:
    """Start a service on a migrated database, and wait until it is ready. With a certificate it
    speaks TLS.
    """
    port = free_port()
    part = stage.start(
        name,
        "serve",
        "--port",
        str(port),
        "--data-dir",
        str(stage.folder),
        command=command,
        LATENCY_SERVICE_DATABASE_URL=database_url,
        LATENCY_SERVICE_API_TOKEN=API_TOKEN,
        **(certificate.environment if certificate else {}),
        **environment,
    )
    url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
    trusted = ssl.create_default_context(cafile=certificate.file if certificate else None)
    http = partial(httpx2.Client, verify=trusted)
    api = stage.open.enter_context(Transport(url, API_TOKEN, timeout_seconds=10.0, http=http))
    served = Served(stage, part, url, api)
    served.wait_ready()
    return served
