"""The service that a job talks to: a given one, a running one, or one that is started for it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from latency_service.core.client import Client
from latency_service.core.credentials import DEFAULT_URL, default_data_dir
from pruning_client.execution import distributed
from pruning_client.service.embedded import Embedded, embedded_service

#: How long a service on this machine may take to accept a connection.
_PROBE_SECONDS = 1.0

Starter = Callable[[Path], AbstractContextManager[Embedded]]


@contextlib.contextmanager
def connected(
    client: Client | None,
    say: Callable[[str], None],
    *,
    url: str | None = None,
    token: str | None = None,
    start: Starter = embedded_service,
) -> Iterator[Client]:
    """A client for as long as a job runs.

    It is the given one, or one of the address that is given or set in LATENCY_SERVICE_URL, or one
    of the service that runs on the default address. When there is none of these, the embedded
    service is started for as long as the context is open, in the default data directory, so that
    measurements are kept.

    Args:
        client: used as it is and left open.
        say: called with one line when a service is started.
        start: starts the embedded service in a folder.
    """
    if client is not None:
        yield client
        return
    known = url or os.environ.get("LATENCY_SERVICE_URL")
    # only the first process of a job talks to the service
    if known or distributed.rank() > 0 or _listens(DEFAULT_URL):
        with Client(known, token) as opened:
            yield opened
        return
    folder = Path(os.environ.get("LATENCY_SERVICE_DATA_DIR") or default_data_dir())
    say(f"No latency service is running: the embedded one is started for this job, in {folder}.")
    with start(folder) as service:
        yield service.client


def announce(line: str) -> None:
    """Write a line to standard error."""
    print(line, file=sys.stderr, flush=True)


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), _PROBE_SECONDS):
            return True
    except OSError:
        return False
