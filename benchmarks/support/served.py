"""A real service process on a real socket, for one benchmark."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from latency_service.core.transport import ApiError, Transport
from latency_service.embedded.supervisor import tail
from tests.support.processes import clean_environment, free_port

TOKEN = "benchmark-token-0123456789abcdef"
_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]
    #: From the start until it was ready.
    ready_seconds: float

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has taken so far."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


@contextmanager
def served(database_url: str, **settings: str) -> Iterator[Server]:
    """A service process on a migrated database, on a free port of this machine.

    Raises:
        RuntimeError: It does not become ready, or it does not stop when it is asked to.
    """
    port = free_port()
    command = [sys.executable, "-m", "latency_service", "serve", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        chosen = {
            "DATA_DIR": folder,
            "DATABASE_URL": database_url,
            "API_TOKEN": TOKEN,
            **settings,
        }
        variables = {f"LATENCY_SERVICE_{name}": value for name, value in chosen.items()}
        log = Path(folder) / "log"
        begun = time.monotonic()
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=clean_environment(**variables), stdout=file, stderr=file
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_ready(url, process, log)
            yield Server(url=url, process=process, ready_seconds=time.monotonic() - begun)
        finally:
            _stop(process, log)


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _READY_SECONDS
    with Transport(url, timeout_seconds=5.0) as http:
        while process.poll() is None and time.monotonic() < until:
            try:
                http.request("GET", "/readyz")
                return
            except ApiError:
                time.sleep(0.02)
    code = process.poll()
    raise RuntimeError(f"the service did not become ready (exit code {code}):\n{tail(log, 20)}")


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise RuntimeError(f"the service did not stop:\n{tail(log, 20)}") from error
