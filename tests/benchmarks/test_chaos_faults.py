"""The proxy of chaos runs does to a request what the fault's name says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.support.chaos import faults
from benchmarks.support.chaos.faults import Fault, FaultProxy
from latency_service.core.transport import ApiError, Transport, Unreachable, is_retryable
from tests.support.agents import eventually
from tests.support.http_server import LocalServer, Reply, Request

Choose = Callable[[Fault], None]


class Echo:
    """A service that answers every request with its body, and keeps it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.arrived = threading.Event()
        self._server = LocalServer(self._reply)
        self._server.start()

    @property
    def port(self) -> int:
        return int(self._server.url.rpartition(":")[2])

    def stop(self) -> None:
        self._server.stop()

    def _reply(self, request: Request) -> Reply:
        self.bodies.append(request.content)
        self.arrived.set()
        return 200, {"size": len(request.content)}


@pytest.fixture
def echo() -> Iterator[Echo]:
    service = Echo()
    yield service
    service.stop()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy([echo.port], share=0.0, seed=1) as proxy:
        yield proxy


@pytest.fixture
def only(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """A function after whose call every request meets one fault."""

    def choose(fault: Fault) -> None:
        handler = faults._HANDLERS[fault]
        monkeypatch.setattr(proxy, "_handler", lambda _request: handler)

    return choose


def put(proxy: FaultProxy, body: bytes = b"x" * 1000) -> int:
    """Status of a request through the proxy.

    Raises:
        ApiError: as the agent's own connection does.
    """
    with Transport(proxy.url, timeout_seconds=5.0) as http:
        return http.request("PUT", "/v1/attempts/a/result", content=body).status_code


def test_without_faults_everything_passes(proxy: FaultProxy, echo: Echo) -> None:
    assert [put(proxy), put(proxy, b"")] == [200, 200]
    assert echo.bodies == [b"x" * 1000, b""]
    assert proxy.statuses == {"200": 2}


def test_a_replica_that_does_not_listen_is_passed_over(echo: Echo) -> None:
    with FaultProxy([1, echo.port], share=0.0, seed=1) as proxy:
        assert [put(proxy) for _ in range(4)] == [200] * 4


@pytest.mark.parametrize(
    ("fault", "arrives"),
    [
        (Fault.RESET_BEFORE, False),
        (Fault.RESET_AFTER, True),
        (Fault.HALF_CLOSE, False),
        (Fault.CUT, True),
        (Fault.HTML, False),
        (Fault.TOO_MANY, False),
        (Fault.BAD_GATEWAY, False),
    ],
)
def test_a_spoiled_request_is_an_error_that_may_be_tried_again(
    proxy: FaultProxy, echo: Echo, only: Choose, fault: Fault, arrives: bool
) -> None:
    only(fault)
    with pytest.raises(ApiError) as caught:
        put(proxy)
    assert is_retryable(caught.value)
    assert (echo.bodies == [b"x" * 1000]) is arrives


def test_faults_of_answers_have_their_status(proxy: FaultProxy, only: Choose) -> None:
    seen = []
    for fault in (Fault.HTML, Fault.TOO_MANY, Fault.BAD_GATEWAY):
        only(fault)
        with pytest.raises(ApiError) as caught:
            put(proxy)
        seen.append(caught.value.status)
    assert seen == [200, 429, 502]


@pytest.mark.parametrize("fault", [Fault.STALL_BEFORE, Fault.STALL_AFTER])
def test_a_stall_delays_the_answer(
    proxy: FaultProxy, only: Choose, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "STALL_SECONDS", (0.5, 0.5))
    only(fault)
    began = time.monotonic()
    assert put(proxy) == 200
    assert time.monotonic() - began >= 0.5


def test_a_replayed_request_arrives_after_its_client_has_given_up(
    proxy: FaultProxy, echo: Echo, only: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "STALL_SECONDS", (0.5, 0.5))
    only(Fault.REPLAY)
    with pytest.raises(Unreachable):
        put(proxy)
    assert not echo.arrived.is_set()
    assert echo.arrived.wait(10)


def test_the_share_of_the_requests_is_spoiled_and_counted(echo: Echo) -> None:
    with FaultProxy([echo.port], share=1.0, seed=3) as proxy:
        handlers = [proxy._handler(b"PUT / HTTP/1.1\r\n\r\n") for _ in range(200)]
        assert faults._pass_on not in handlers
        assert sum(proxy.faults.values()) == 200
        assert set(proxy.faults) == {fault.value for fault in Fault}
        proxy.share = 0.0
        assert proxy._handler(b"PUT / HTTP/1.1\r\n\r\n") is faults._pass_on


def test_an_error_of_the_proxy_itself_is_kept(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(exchange: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(proxy, "_handler", lambda _request: fail)
    with pytest.raises(ApiError), Transport(proxy.url, timeout_seconds=0.5) as http:
        http.request("GET", "/healthz")
    eventually(lambda: proxy.errors == ["the proxy: ValueError: a bug"])
