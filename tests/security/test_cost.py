"""What requests without a valid token may cost the service, whatever they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.databases import Clone
from tests.support.processes import Served, Stage, serve
from tests.support.sockets import connect, head, read_answer, send_what_goes

#: Of each kind of request.
COUNT = 40
MAX_CPU_MS = 5.0
MAX_BYTES = 1 << 20
BOMB = b"[" + b"{}," * 10_000_000 + b"{}]"
GUESSED = "Bearer " + "x" * 43


def bomb(path: str, **headers: str) -> bytes:
    sent = head(
        "POST", path, content_type="application/json", content_length=str(len(BOMB)), **headers
    )
    return sent + BOMB


#: Each kind of request with the status that answers it.
REQUESTS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "JSON of 31 MB": (401, lambda: bomb("/v1/campaigns")),
    "JSON of 31 MB with a guessed token": (
        401,
        lambda: bomb("/v1/campaigns", authorization=GUESSED),
    ),
    "JSON of 31 MB to an open route": (405, lambda: bomb("/healthz")),
    "a form of 31 MB": (413, lambda: form(len(BOMB)) + BOMB),
    "a form of many fields": (422, lambda: form(50_000) + b"a=1&" * 12_500),
    "the page to sign in": (200, lambda: head("GET", "/signin", accept="text/html")),
    "a page": (303, lambda: head("GET", "/", accept="text/html")),
    "a predictor's body of 31 MB": (401, lambda: bomb("/v1/predictors/x/predict")),
    "a compressed bomb": (401, lambda: bomb("/v1/attempts/x/result", content_encoding="gzip")),
    "malformed JSON": (401, lambda: head("POST", "/v1/runs", content_length="1") + b"{"),
    "an unknown route": (404, lambda: head("GET", "/" + "a/" * 1000)),
    "a deep path": (401, lambda: head("GET", "/v1/campaigns/" + "%2f" * 10_000)),
    "a huge query": (401, lambda: head("GET", "/v1/measurements?" + "a=1&" * 15_000)),
    "many headers": (
        431,
        lambda: head("GET", "/v1/devices", **{f"x{k}": "y" for k in range(3000)}),
    ),
    "a head of 60 kB": (200, lambda: head("GET", "/healthz", cookie="y" * 60_000)),
    "a head of 100 MB": (431, lambda: b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000_000),
    "a long token": (
        401,
        lambda: head("GET", "/v1/devices", authorization="Bearer " + "x" * 60_000),
    ),
    "a guessed token": (401, lambda: head("GET", "/v1/devices", authorization=GUESSED)),
    "an unknown method": (400, lambda: head("BREW", "/v1/devices")),
    "no HTTP": (400, lambda: bytes(range(256)) * 100),
    "chunks without end": (
        401,
        lambda: (
            head("POST", "/v1/runs", transfer_encoding="chunked")
            + (b"400\r\n" + bytes(0x400) + b"\r\n") * 10_000
        ),
    ),
    "documentation": (401, lambda: head("GET", "/docs")),
    "figures": (401, lambda: head("GET", "/metrics")),
    "health": (200, lambda: head("GET", "/healthz")),
    "readiness": (200, lambda: head("GET", "/readyz")),
}


def form(length: int) -> bytes:
    kind = "application/x-www-form-urlencoded"
    return head("POST", "/signin", content_type=kind, content_length=str(length))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, clone_sqlite: Clone) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("cost")
    stage = Stage(folder, folder / "calibrations")
    made = serve(stage, clone_sqlite(True), LATENCY_SERVICE_REFUSALS_BURST="100000")
    # a process builds its routes and pages at their first use
    for path in ("/healthz", "/v1/devices", "/signin", "/nowhere"):
        _send(made, head("GET", path), 20)
        _send(made, head("POST", path), 1)
    yield made
    stage.close()


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_without_a_token_costs_little(service: Served, kind: str) -> None:
    status, make = REQUESTS[kind]
    content = make()
    process = psutil.Process(service.part.pid)
    before, memory = process.cpu_times(), process.memory_info().rss
    answers = _send(service, content, COUNT)
    after, grown = process.cpu_times(), process.memory_info().rss - memory
    spent = after.user + after.system - before.user - before.system
    assert {answer[:12] for answer in answers} == {f"HTTP/1.1 {status}".encode()}
    assert 1e3 * spent / COUNT <= MAX_CPU_MS
    assert grown / COUNT <= MAX_BYTES
    began = time.monotonic()
    assert service.api.request("GET", "/healthz").status_code == 200
    assert time.monotonic() - began < 5.0


def _send(service: Served, content: bytes, count: int) -> list[bytes]:
    """Send a request so often, each on a connection of its own, however much of it goes; the heads
    of the answers.
    """

    def send(_: int) -> bytes:
        with connect(service.url) as connection:
            send_what_goes(connection, content)
            return read_answer(connection)[0]

    # the service keeps who goes on sending waiting
    with ThreadPoolExecutor(16) as several:
        return list(several.map(send, range(count)))
