"""Simulated agents that lease jobs from a real service process over HTTP and send results."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2

from benchmarks.support.networks import resnet20
from benchmarks.support.served import TOKEN, served
from latency_service.agent.testing import FakeAgent
from latency_service.core.transport import Transport
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph.space import make_space


@dataclass(frozen=True, kw_only=True)
class HttpRace:
    """Jobs that agents have leased and finished over HTTP."""

    jobs: int
    seconds: float
    #: Processor time of the service.
    cpu_seconds: float
    #: Duration of every request, sorted, ms.
    milliseconds: list[float]

    @property
    def p99_ms(self) -> float:
        return self.milliseconds[int(0.99 * (len(self.milliseconds) - 1))]


def race_over_http(database_url: str, agents: int, jobs: int) -> HttpRace:
    """Let so many agents, each of a device of its own, lease and finish jobs of one architecture
    each; at least `jobs` in all.
    """
    with served(database_url) as server, httpx2.Client(base_url=server.url, timeout=60) as http:
        names = [f"board{number}" for number in range(agents)]
        crew = [FakeAgent(http, enrolment(server.url), name) for name in names]
        each = -(-jobs // agents)
        _queue(server.url, names, each)
        spent = server.cpu_seconds
        begun = time.monotonic()
        with ThreadPoolExecutor(agents) as pool:
            timed = list(pool.map(_work, crew))
        seconds = time.monotonic() - begun
        return HttpRace(
            jobs=each * agents,
            seconds=seconds,
            cpu_seconds=server.cpu_seconds - spent,
            milliseconds=sorted(each for times in timed for each in times),
        )


def enrolment(url: str) -> str:
    """A new enrolment token."""
    with Transport(url, TOKEN) as api:
        return str(api.request("POST", "/v1/enrolments").json()["token"])


def _queue(url: str, devices: list[str], jobs: int) -> None:
    """Queue so many jobs for each device."""
    with Transport(url, TOKEN, timeout_seconds=120) as api:
        space = upload_space(api)
        widths = [_some_widths(space, number) for number in range(jobs)]
        for device in devices:
            api.request("POST", "/v1/campaigns", json=campaign(space, device, widths))


def _some_widths(space: SearchSpace, number: int) -> list[int]:
    """One of many architectures of the space."""
    return [group.width - number % (group.width - group.minimum + 1) for group in space.groups]


def upload_space(api: Transport) -> SearchSpace:
    """The search space that everything here is about, stored at the service."""
    model, example = resnet20()
    space = make_space(model, example, name="resnet20").space
    api.request("POST", "/v1/spaces", content=space.data)
    return space


def campaign(space: SearchSpace, device: str, widths: list[list[int]]) -> dict[str, Any]:
    """A request to measure these architectures, one a job."""
    return {
        "space_id": space.id,
        "device": device,
        "purpose": "measure",
        "widths": widths,
        "batch_size": 1,
    }


def _work(agent: FakeAgent) -> list[float]:
    """Finish jobs until none waits; the duration of each request, ms."""
    times: list[float] = []
    while (lease := _timed(times, agent.claim)) is not None:
        body = agent.result(lease)
        _timed(times, agent.send, lease, body).raise_for_status()
    return times


def _timed(times: list[float], call: Any, *arguments: Any) -> Any:
    begun = time.perf_counter()
    answer = call(*arguments)
    times.append(1000 * (time.perf_counter() - begun))
    return answer
