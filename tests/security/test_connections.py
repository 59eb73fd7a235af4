"""Connections that are half-open, slow, greedy or many: each is limited, and the log says so. With
TLS as without.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from latency_service.agent.testing import bearer
from tests.support.certificates import NEEDS_OPENSSL, Certificate, make_certificate
from tests.support.databases import Clone
from tests.support.processes import API_TOKEN, Served, Stage, serve, with_files
from tests.support.sockets import (
    connect,
    drip,
    head,
    read_all,
    read_answer,
    seconds_until_closed,
    send_what_goes,
)

TOKEN = bearer(API_TOKEN)["authorization"]
MAX_CONNECTIONS = 40
HEAD_SECONDS = STALL_SECONDS = 2
LIMITS = {
    "LATENCY_SERVICE_HEAD_SECONDS": str(HEAD_SECONDS),
    "LATENCY_SERVICE_STALL_SECONDS": str(STALL_SECONDS),
    "LATENCY_SERVICE_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
    "LATENCY_SERVICE_MAX_HEAD_BYTES": "16384",
}
#: So many more wait for their answer; further ones are closed at once.
LINGERING = 50
#: With the second between two looks at all connections, and a loaded machine.
SOON_SECONDS = 15.0


#: For what the transport has no part in.
HTTP_ONLY = pytest.mark.parametrize("certificate", ["http"], indirect=True)


@pytest.fixture(scope="module", params=["http", pytest.param("https", marks=NEEDS_OPENSSL)])
def certificate(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Certificate | None:
    """With which the service speaks TLS; None where it does not."""
    if request.param == "http":
        return None
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, clone_sqlite: Clone, certificate: Certificate | None
) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("connections")
    stage = Stage(folder, folder / "calibrations")
    yield serve(stage, clone_sqlite(True), certificate=certificate, **LIMITS)
    stage.close()


def log(service: Served) -> str:
    return service.part.log.read_text()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /heal", b"\r\n\r\n", head("GET", "/healthz")[:-2], b"GET /healthz HTTP/1.1\r\n"],
    ids=["nothing", "a method", "empty lines", "no last line", "a first line"],
)
def test_half_open_connections_are_closed(service: Served, sent: bytes) -> None:
    with connect(service.url, sent) as connection:
        assert 1.0 < seconds_until_closed(connection) < SOON_SECONDS
    assert "it sends no whole request" in log(service)


def test_a_head_in_drips_is_closed(service: Served) -> None:
    with connect(service.url, b"GET /healthz HTTP/1.1\r\n") as connection:
        assert drip(connection, b"x: y\r\n", SOON_SECONDS) < SOON_SECONDS


def test_a_body_that_pauses_is_closed(service: Served) -> None:
    begun = head(
        "POST", "/v1/runs", authorization=TOKEN, content_type="application/json", content_length="9"
    )
    with connect(service.url, begun, b"{") as connection:
        assert 1.0 < seconds_until_closed(connection) < SOON_SECONDS
    assert "it sends its body too slowly" in log(service)


def test_bodies_in_drips_are_closed(service: Served) -> None:
    """Of strangers and of users, from the start or after a part that came at once."""
    bodies = [(path, sent) for path in ("/signin", "/v1/runs") for sent in (0, 30_000)]

    def seconds_open(body: tuple[str, int]) -> float:
        path, sent_at_once = body
        kind = "application/x-www-form-urlencoded" if path == "/signin" else "application/json"
        begun = head("POST", path, authorization=TOKEN, content_type=kind, content_length="60000")
        with connect(service.url, begun, b" " * sent_at_once) as connection:
            return drip(connection, b" ", SOON_SECONDS)

    with ThreadPoolExecutor(len(bodies)) as threads:
        assert max(threads.map(seconds_open, bodies)) < SOON_SECONDS


@HTTP_ONLY
def test_a_body_of_a_slow_line_is_read(service: Served) -> None:
    parts = [b" " * 1024] * 12
    begun = head(
        "POST",
        "/v1/runs",
        authorization=TOKEN,
        content_type="application/json",
        content_length=str(len(b"".join(parts)) + 2),
    )
    with connect(service.url, begun) as connection:
        for part in parts:  # for longer than it may pause
            connection.sendall(part)
            time.sleep(0.4)
        connection.sendall(b"{}")
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 422")


@HTTP_ONLY
def test_an_idle_connection_that_has_asked_may_ask_again(service: Served) -> None:
    with connect(service.url) as connection:
        for _ in range(2):
            connection.sendall(head("GET", "/healthz"))
            assert read_answer(connection)[0].startswith(b"HTTP/1.1 200")
            time.sleep(2.5)


@HTTP_ONLY
def test_a_long_poll_outlives_the_limits_of_heads_and_bodies(service: Served) -> None:
    """A connection that waits for its answer owes nothing."""
    agent = _registered(service, service.post("/v1/enrolments")["token"])
    seconds = HEAD_SECONDS + STALL_SECONDS + 2  # looks at all connections are a second apart
    asked = head(
        "POST", f"/v1/leases?wait={seconds}", authorization=f"Bearer {agent}", content_length="0"
    )
    began = time.monotonic()
    with connect(service.url, asked) as connection:
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 204")
    assert time.monotonic() - began >= seconds


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nx: " + b"y" * 1_000_000,
        head("GET", "/healthz", **{f"x{k}": "y" * 1000 for k in range(20)}),
        head("GET", "/healthz?" + "y" * 20_000),
        head("GET", "/" + "y" * 200_000),
    ],
    ids=["one header", "many headers", "a query", "a path"],
)
def test_heads_over_the_limit_are_answered_with_431(service: Served, sent: bytes) -> None:
    with connect(service.url) as connection:
        send_what_goes(connection, sent)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431"), answer[:200]
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert "16384 bytes" in error["message"]
    assert "LATENCY_SERVICE_MAX_HEAD_BYTES" in error["cure"]
    assert b"retry-after" not in answer
    assert "head_too_large" in log(service)


def test_a_head_of_many_headers_is_answered_with_431(service: Served) -> None:
    with connect(service.url, head("GET", "/healthz", **{f"x{k}": "y" for k in range(99)})) as good:
        assert read_answer(good)[0].startswith(b"HTTP/1.1 200")
    with connect(
        service.url, head("GET", "/healthz", **{f"x{k}": "y" for k in range(2000)})
    ) as bad:
        answer = read_all(bad)
    assert answer.startswith(b"HTTP/1.1 431"), answer[:200]
    assert b"more than 100 headers" in answer


def test_what_is_no_http_is_answered_with_400(service: Served) -> None:
    with connect(service.url, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") as connection:
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"retry-after" not in answer
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert (error["code"], error["message"]) == ("not_http", "Invalid HTTP request received.")
    assert "HTTP/1.1" in error["cure"]


def test_who_still_sends_hears_that_it_is_refused(service: Served) -> None:
    body = b"[" + b"{}," * 300_000 + b"{}]"
    sent = head("POST", "/v1/campaigns", content_length=str(len(body)))
    with connect(service.url, sent) as connection:
        send_what_goes(connection, body)
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content_length": "2000000"}, bytes(1_000_000)),
        ({"transfer_encoding": "chunked"}, b"400\r\n" + bytes(0x400) + b"\r\n"),
    ],
    ids=["of stated length", "in chunks"],
)
def test_a_proxy_uses_no_connection_again_whose_body_was_not_read(
    service: Served, headers: dict[str, str], body: bytes
) -> None:
    """The next request on it, somebody else's, would be lost with it."""
    with connect(service.url, head("POST", "/v1/campaigns", **headers)) as connection:
        send_what_goes(connection, body)
        answer = read_answer(connection)[0]
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"\r\nconnection: close\r\n" in answer
        assert seconds_until_closed(connection) < SOON_SECONDS


def test_a_small_body_that_was_not_read_keeps_its_connection(service: Served) -> None:
    sent = head("POST", "/v1/campaigns", content_length="100000")
    with connect(service.url) as connection:
        for _ in range(2):
            connection.sendall(sent + bytes(100_000))
            answer = read_answer(connection)[0]
            assert answer.startswith(b"HTTP/1.1 401")
            assert b"\r\nconnection:" not in answer


def test_a_large_body_that_was_read_ends_its_connection_at_once(service: Served) -> None:
    body = json.dumps({"name": "x" * 300_000}).encode()
    sent = head(
        "POST",
        "/v1/runs",
        authorization=TOKEN,
        content_type="application/json",
        content_length=str(len(body)),
    )
    with connect(service.url, sent, body) as connection:
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 422")
        assert seconds_until_closed(connection) < 0.5


def test_a_refused_client_cannot_send_for_ever(service: Served) -> None:
    sent = head("POST", "/v1/campaigns", content_length=str(1 << 34))
    with connect(service.url, sent) as connection:
        assert send_what_goes(connection, bytes(64 << 20)) < 64 << 20


def test_connections_over_the_limit_are_answered_with_503(service: Served) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(connect(service.url, b"GET /healthz HTTP/1.1\r\n"))
        with connect(service.url, head("GET", "/healthz")) as further:
            answer = read_all(further)
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert b"retry-after: 5\r\n" in answer
        assert b"LATENCY_SERVICE_MAX_CONNECTIONS" in answer
        assert b"too_many_connections" in answer
    assert f"limit={MAX_CONNECTIONS}" in log(service)
    service.wait_ready()


def test_far_over_the_limit_no_request_is_waited_for(service: Served) -> None:
    if service.url.startswith("https:"):
        pytest.skip("an answer would need a handshake: test_handshakes")
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + LINGERING):
            stack.enter_context(connect(service.url))
        with connect(service.url) as further:
            assert read_all(further).startswith(b"HTTP/1.1 503")
    service.wait_ready()


def test_past_the_descriptor_limit_the_service_answers_and_recovers(
    tmp_path: Path, clone_sqlite: Clone, certificate: Certificate | None
) -> None:
    stage = Stage(tmp_path, tmp_path / "calibrations")
    try:
        service = serve(stage, clone_sqlite(True), command=with_files(160), certificate=certificate)
        with ExitStack() as stack:
            opened = [stack.enter_context(connect(service.url)) for _ in range(90)]
            answers = []
            for connection in opened[-10:]:
                connection.sendall(head("GET", "/healthz"))
                answers.append(read_answer(connection)[0][:12])
            assert set(answers) == {b"HTTP/1.1 503"}
            opened[0].sendall(head("GET", "/v1/devices", authorization=TOKEN))
            assert read_answer(opened[0])[0].startswith(b"HTTP/1.1 200")
        service.wait_ready()
        assert service.get("/v1/devices") == []
        assert "reason=too_many" in log(service)
    finally:
        stage.close()


def test_without_descriptors_connections_are_accepted_later(
    tmp_path: Path, clone_sqlite: Clone
) -> None:
    stage = Stage(tmp_path, tmp_path / "calibrations")
    try:
        service = serve(stage, clone_sqlite(True), command=with_files(64))
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(connect(service.url))
            stage.eventually(lambda: "reason=not_accepted" in log(service), "there are none left")
        service.wait_ready()
    finally:
        stage.close()


def test_a_stopping_service_finishes_what_runs(
    tmp_path: Path, clone_sqlite: Clone, certificate: Certificate | None
) -> None:
    stage = Stage(tmp_path, tmp_path / "calibrations")
    try:
        service = serve(
            stage,
            clone_sqlite(True),
            certificate=certificate,
            LATENCY_SERVICE_MAX_WAIT_SECONDS="60",
        )
        token = service.post("/v1/enrolments")["token"]
        agent = _registered(service, token)
        body = b'{"name": "r", "method": "m", "space_id": "s", "predictor_id": null,'
        rest = b' "budget_ms": 1, "report": {}}'
        sent = head(
            "POST",
            "/v1/runs",
            authorization=TOKEN,
            content_type="application/json",
            content_length=str(len(body) + len(rest)),
        )
        poll = head(
            "POST", "/v1/leases?wait=60", authorization=f"Bearer {agent}", content_length="0"
        )
        with (
            connect(service.url, poll) as polling,
            connect(service.url, sent, body) as running,
            connect(service.url) as idle,
        ):
            time.sleep(1.0)
            process = service.part.process
            assert process is not None
            service.api.close()  # over TLS, who is idle says no goodbye until it is used again
            process.terminate()
            assert read_answer(polling)[0].startswith(b"HTTP/1.1 204")
            assert read_all(idle) == b""
            running.sendall(rest)
            # there is no such space: the request was carried out
            assert read_answer(running)[0].startswith(b"HTTP/1.1 404")
        assert process.wait(timeout=SOON_SECONDS) == 0
    finally:
        stage.close()


def _registered(service: Served, enrolment: str) -> str:
    request = {
        "device": "board",
        "agent_version": "0",
        "runtime_version": "1.20.0",
        "max_opset": 20,
        "providers": ["CPUExecutionProvider"],
    }
    answer = service.api.request(
        "POST", "/v1/agents/register", json=request, headers=bearer(enrolment)
    )
    return str(answer.json()["agent_token"])
