"""An agent behind a reverse proxy, over real sockets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from latency_service.agent import loop
from latency_service.agent.state import State
from latency_service.core import retry
from latency_service.core.client.agent_client import AgentClient, encode
from latency_service.core.transport import ApiError, Transport
from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import (
    ArchitectureResult,
    Calibration,
    ResultBody,
    Round,
)
from tests.support.agents import Agent, FakeProfiler, eventually, lease_of
from tests.support.fake_agent_service import FakeAgentService
from tests.support.proxy import Proxy

MakeProxy = Callable[..., Proxy]


@pytest.fixture
def proxied(fake_service: FakeAgentService) -> Iterator[MakeProxy]:
    """A function that puts a proxy before the service."""
    made: list[Proxy] = []

    def make(**options: Any) -> Proxy:
        made.append(Proxy(fake_service.url, **options))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def at(state: State, profiler: FakeProfiler) -> Iterator[Callable[[str], Agent]]:
    """A function that starts an agent of the service at an address."""
    agents: list[Agent] = []

    def begin(url: str) -> Agent:
        agents.append(Agent(url, state, profiler))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.end()


def test_an_agent_works_under_a_path(
    fake_service: FakeAgentService, proxied: MakeProxy, at: Callable[[str], Agent]
) -> None:
    proxy = proxied(prefix="/latency")
    fake_service.offer(lease_of("t1", fake_service.keep(b"a search space")))
    at(proxy.url)
    eventually(lambda: "t1" in fake_service.results)
    assert all(path.startswith("/latency/v1/") for _, path, _ in proxy.seen)


def test_a_result_over_the_proxy_s_limit_is_measured_once_and_says_why(
    fake_service: FakeAgentService,
    proxied: MakeProxy,
    at: Callable[[str], Agent],
    profiler: FakeProfiler,
    state: State,
) -> None:
    fake_service.offer(lease_of("t1", fake_service.keep(b"a search space")))
    at(proxied(most_bytes=100, limited="/result").url)
    eventually(lambda: "t1" in fake_service.failures)
    failure = fake_service.failures["t1"]
    assert failure["kind"] == "result_refused"
    for words in (
        "413 Request Entity Too Large",
        "small-proxy",
        "client_max_body_size",
        str(state.folder / "refused" / "t1.json"),
    ):
        assert words in failure["message"]
    assert len(profiler.files) == 1
    assert (state.folder / "refused" / "t1.json").exists()
    assert list(state.spooled()) == []


@pytest.mark.parametrize("status", [404, 409, 410])
def test_a_result_that_nobody_wants_is_no_failure(
    fake_service: FakeAgentService, at: Callable[[str], Agent], state: State, status: int
) -> None:
    space_id = fake_service.keep(b"a search space")
    fake_service.instead["result"] = status
    fake_service.offer(lease_of("t1", space_id))
    at(fake_service.url)
    eventually((state.folder / "refused" / "t1.json").exists)
    fake_service.instead.clear()
    fake_service.offer(lease_of("t2", space_id))
    eventually(lambda: "t2" in fake_service.results)
    assert fake_service.failures == {}


@pytest.mark.parametrize("cut_with", [502, 504, None])
def test_a_healthy_agent_asks_again_soon_when_a_proxy_cuts_its_polls(
    fake_service: FakeAgentService,
    proxied: MakeProxy,
    at: Callable[[str], Agent],
    monkeypatch: pytest.MonkeyPatch,
    cut_with: int | None,
) -> None:
    monkeypatch.setattr(loop, "HELD_SECONDS", 0.2)
    monkeypatch.setattr(loop, "SHORTEST_WAIT_SECONDS", 0.1)
    proxy = proxied(cut_seconds=0.4, cut_with=cut_with)
    at(proxy.url)
    eventually(lambda: len(proxy.times("leases")) >= 6)
    times = proxy.times("leases")
    # it used to back off to 16 s and more; a busy machine takes a second or two by itself
    assert max(later - earlier for earlier, later in pairwise(times)) < 5
    waits = [float(path.split("wait=")[1]) for _, path, _ in proxy.seen if "wait=" in path]
    assert waits[0] == fake_service.cadence["wait_seconds"]
    assert 0.1 <= waits[1] <= 2


def test_a_service_that_is_away_is_asked_less_and_less(
    fake_service: FakeAgentService,
    proxied: MakeProxy,
    at: Callable[[str], Agent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pauses are drawn from 0 to these limits
    monkeypatch.setattr(retry, "delays", partial(retry.delays, jitter=lambda: 1.0))
    fake_service.instead["leases"] = 503
    proxy = proxied()
    at(proxy.url)
    eventually(lambda: len(proxy.times("leases")) >= 4)
    first, second, third, fourth = proxy.times("leases")[:4]
    assert second - first < third - second < fourth - third


def large_result(architectures: int, rounds: int) -> ResultBody:
    """A result as the agent sends it, with as many digits as it gives."""
    rng = random.Random(1)

    def ms(level: float) -> float:
        return float(f"{level * rng.uniform(1, 1.1):.6g}")

    def one(index: int) -> Round:
        return Round(
            at_seconds=round(index * 0.02 + rng.random(), 6),
            latency_ms=ms(2.0),
            runs=3,
            before_ms=[ms(level) for level in (0.1, 0.35, 0.9, 3.0)],
            after_ms=[ms(level) for level in (0.1, 0.35, 0.9, 3.0)],
            reference_ms=(ms(4.0), ms(4.0)),
        )

    return ResultBody(
        fingerprint=Fingerprint(runtime=RuntimeConfig(), facts={"cpu": "made up"}),
        calibration=Calibration(canaries=["a", "b", "c", "d"], floor_ms=[0.1, 0.35, 0.9, 3.0]),
        results=[
            ArchitectureResult(index=i, rounds=[one(k) for k in range(rounds)], stopped="rounds")
            for i in range(architectures)
        ],
        wall_seconds=1.0,
        timed_seconds=1.0,
    )


def test_the_largest_usual_result_fits_into_a_megabyte(
    fake_service: FakeAgentService, proxied: MakeProxy
) -> None:
    """64 architectures, each with all the rounds that a protocol gives by default."""
    proxy = proxied(most_bytes=1_000_000)
    body = encode(large_result(64, 120))
    with Transport(proxy.url, "agent-token") as http:
        AgentClient(http).result("t1", body)
    assert len(body) > 1_500_000
    assert 100_000 < proxy.largest_bytes < 700_000
    assert fake_service.results["t1"] == body


def test_an_address_without_the_proxy_s_path_says_so(
    fake_service: FakeAgentService, proxied: MakeProxy
) -> None:
    proxy = proxied(prefix="/latency")
    with (
        Transport(proxy.url.removesuffix("/latency"), "agent-token") as http,
        pytest.raises(ApiError, match="path under which a proxy serves") as caught,
    ):
        AgentClient(http).lease(0.0)
    assert (caught.value.status, caught.value.code) == (404, "foreign_answer")
