"""The whole service on this machine for as long as a program runs: database, agent and trainer in
one folder.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latency_service.core.client import Client
from pruning_client.errors import Missing

STOP_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A service that runs here, and this machine as its device."""

    client: Client
    #: name of this machine as a device
    device: str
    url: str


@contextlib.contextmanager
def embedded_service(folder: Path | str) -> Iterator[Embedded]:
    """``latency-service up`` as a child process, and a client of it; it is stopped cleanly in the
    end, also when this program is killed.

    Args:
        folder: keeps the database, the token and the calibration of this machine; the same folder
            opens the same service again, with everything that was measured. Its log lies beside it,
            ``FOLDER.log``.

    Raises:
        Missing: the service did not start.
    """
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    command = [
        sys.executable,
        "-m",
        "latency_service",
        "up",
        "--data-dir",
        str(folder),
        "--port",
        "0",
        "--json",
        "--until-input-ends",
    ]
    pipe = subprocess.PIPE
    with (
        log.open("a") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as child,
    ):
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            if not line:
                raise Missing(
                    "The embedded service did not start.",
                    f"The end of {log} says why; another job may use its folder.",
                )
            ready = json.loads(line)
            token = Path(ready["token_file"]).read_text().strip()
            with Client(ready["url"], token, cache_dir=folder / "cache") as client:
                yield Embedded(client=client, device=ready["device"], url=ready["url"])
        finally:
            _stop(child)


def _stop(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
