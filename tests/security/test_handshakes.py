"""Connections of a service with TLS that never end their handshake: they are closed in time, count,
and leave room for those who do.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from latency_service.agent.testing import bearer
from tests.support.certificates import NEEDS_OPENSSL, make_certificate
from tests.support.databases import Clone
from tests.support.processes import API_TOKEN, Served, Stage, serve, with_files
from tests.support.sockets import (
    CLOSED,
    connect,
    drip,
    head,
    read_all,
    read_answer,
    seconds_until_closed,
)

pytestmark = NEEDS_OPENSSL
HEAD_SECONDS = 3
MAX_CONNECTIONS = 10
#: So many more are answered, and further ones are not.
LINGERING = 50
MAX_FILES = 160
SOON_SECONDS = 15.0
#: The first bytes of a handshake: a record of 512 bytes, of which the rest does not come.
BEGUN = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
DEVICES = head("GET", "/v1/devices", authorization=bearer(API_TOKEN)["authorization"])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("handshakes")
    made = Stage(folder, folder / "calibrations")
    yield made
    made.close()


@pytest.fixture(scope="module")
def service(stage: Stage, clone_sqlite: Clone) -> Served:
    return serve(
        stage,
        clone_sqlite(True),
        certificate=make_certificate(stage.folder),
        LATENCY_SERVICE_HEAD_SECONDS=str(HEAD_SECONDS),
        LATENCY_SERVICE_MAX_CONNECTIONS=str(MAX_CONNECTIONS),
    )


def plain(service: Served, *sent: bytes) -> socket.socket:
    """A connection without a handshake."""
    return connect(service.url.replace("https:", "http:"), *sent)


@pytest.mark.parametrize("sent", [b"", BEGUN], ids=["nothing", "a part"])
def test_a_handshake_that_stops_is_closed(service: Served, sent: bytes) -> None:
    with plain(service, sent) as connection:
        assert HEAD_SECONDS - 1.0 < seconds_until_closed(connection) < SOON_SECONDS
    service.stage.eventually(
        lambda: "it ends no TLS handshake" in service.part.log.read_text(), "the log says so"
    )


def test_a_handshake_in_drips_is_closed(service: Served) -> None:
    with plain(service, BEGUN) as connection:
        assert drip(connection, b"\0", SOON_SECONDS) < SOON_SECONDS


def test_what_speaks_no_tls_is_closed_at_once(service: Served) -> None:
    with plain(service, head("GET", "/healthz")) as connection:
        assert seconds_until_closed(connection) < HEAD_SECONDS


def test_who_shakes_no_hands_counts(service: Served) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(plain(service))
        with connect(service.url, head("GET", "/healthz")) as further:
            answer = read_all(further)
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert b"too_many_connections" in answer
    service.wait_ready()


def test_far_over_the_limit_nobody_shakes_hands(service: Served) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + LINGERING):
            stack.enter_context(plain(service))
        with pytest.raises(CLOSED):
            connect(service.url)
    service.wait_ready()


def test_who_shakes_no_hands_leaves_descriptors(stage: Stage, clone_sqlite: Clone) -> None:
    service = serve(
        stage,
        clone_sqlite(True),
        "few_files",
        command=with_files(MAX_FILES),
        certificate=make_certificate(stage.folder),
    )
    with connect(service.url, DEVICES) as known, ExitStack() as stack:
        assert read_answer(known)[0].startswith(b"HTTP/1.1 200")
        for _ in range(2 * MAX_FILES):
            stack.enter_context(plain(service))
        known.sendall(DEVICES)
        assert read_answer(known)[0].startswith(b"HTTP/1.1 200")
        assert psutil.Process(service.part.pid).num_fds() < MAX_FILES - 10
    service.wait_ready()
    assert "reason=too_many" in service.part.log.read_text()
