"""1,000 simulated agents poll one service process: its processor time, and how fast work arrives.

Each agent is a device of its own with two connections; it polls and sends heartbeats at the cadence
that the service tells it. While all are idle, the service's processor time is read from the
operating system and other requests are timed. Then campaigns of one job come for random devices,
one after the other; a delivery is timed from the request that creates the campaign to the lease at
the agent.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.support.agents import campaign, upload_space
from benchmarks.support.databases import migrated
from benchmarks.support.fleet import FleetAgent, Line, at_work, enrolled
from benchmarks.support.harness import Bar, Outcome, at_most
from benchmarks.support.served import TOKEN, Server, served
from latency_service.core.transport import Transport
from latency_service.spaces.slicing import SearchSpace


class Size(NamedTuple):
    """Number of agents, seconds of idle polling, other requests of each kind, deliveries, and
    seconds to settle before.
    """

    agents: int
    idle_seconds: float
    probes: int
    deliveries: int
    settle_seconds: float


FULL = Size(agents=1000, idle_seconds=50.0, probes=300, deliveries=200, settle_seconds=52.0)
QUICK = Size(agents=40, idle_seconds=3.0, probes=6, deliveries=10, settle_seconds=1.0)
#: Other requests while the fleet is idle, per second.
PROBES_PER_SECOND = 20.0
DELIVERIES_PER_SECOND = 10.0
LONGEST_DELIVERY_SECONDS = 30.0
MOST_BROKEN_PERCENT = 0.1


class Observed(NamedTuple):
    """What was seen of one service process."""

    cpu_share: float
    requests_per_second: float
    probe_ms: dict[str, list[float]]
    delivery_ms: list[float]
    list_devices_ms: float
    #: Of the agents: requests, those that the service refused, those whose connection broke.
    requests: int
    errors: int
    broken: int
    cadence: dict[str, float]

    @property
    def probe_p99_ms(self) -> dict[str, float]:
        """99th percentile of each kind of other requests."""
        return {name: float(np.percentile(times, 99)) for name, times in self.probe_ms.items()}


def run(quick: bool) -> Outcome:
    """A fleet on a service with SQLite."""
    size = QUICK if quick else FULL
    with migrated("sqlite") as url, served(url) as server:
        with Transport(server.url, TOKEN) as api:
            space = upload_space(api)
        seen = asyncio.run(_observe(server, space, size))
    return Outcome(
        bars=bars(seen),
        rows=[_row(name, times) for name, times in seen.probe_ms.items()],
        data=_data(seen, size),
    )


def bars(seen: Observed) -> list[Bar]:
    """What is claimed of the fleet."""
    p99 = max(seen.probe_p99_ms.values())
    delivered = float(np.percentile(seen.delivery_ms, 99))
    broken = 100 * seen.broken / seen.requests
    return [
        at_most("processor of the idle fleet", 100 * seen.cpu_share, 15, "% of a core"),
        at_most("p99 from a campaign to its lease", delivered, 1000, "ms"),
        at_most("p99 of other requests, slowest kind", p99, 50, "ms"),
        at_most("agents' requests that failed", seen.errors, 0, "requests"),
        at_most("agents' requests whose connection broke", broken, MOST_BROKEN_PERCENT, "%"),
    ]


async def _observe(server: Server, space: SearchSpace, size: Size) -> Observed:
    names = [f"board{number}" for number in range(size.agents)]
    agents = [await enrolled(server.url, TOKEN, name) for name in names]
    async with at_work(agents):
        await asyncio.sleep(size.settle_seconds)
        spent, begun = server.cpu_seconds, time.monotonic()
        asked = sum(agent.requests for agent in agents)
        await asyncio.sleep(size.idle_seconds)
        seconds = time.monotonic() - begun
        cpu_share = (server.cpu_seconds - spent) / seconds
        rate = (sum(agent.requests for agent in agents) - asked) / seconds
        probe_ms = await _probe(server.url, names, size.probes)
        delivery_ms = await _deliver(server.url, space, agents, size.deliveries)
        line = Line(server.url, TOKEN)
        list_ms = await _timed(line, "/v1/devices")
        line.close()
    return Observed(
        cpu_share=cpu_share,
        requests_per_second=rate,
        probe_ms=probe_ms,
        delivery_ms=delivery_ms,
        list_devices_ms=list_ms,
        requests=sum(agent.requests for agent in agents),
        errors=sum(len(agent.errors) for agent in agents),
        broken=sum(agent.broken for agent in agents),
        cadence=agents[0].cadence,
    )


async def _probe(url: str, names: list[str], count: int) -> dict[str, list[float]]:
    """Durations of other requests, ms, one after the other while the fleet polls."""
    line = Line(url, TOKEN)
    times: dict[str, list[float]] = {"healthz": [], "device": [], "campaigns": [], "spaces": []}
    for _ in range(count):
        paths = {
            "healthz": "/healthz",
            "device": f"/v1/devices/{random.choice(names)}",
            "campaigns": "/v1/campaigns",
            "spaces": "/v1/spaces",
        }
        for name, path in paths.items():
            times[name].append(await _timed(line, path))
            await asyncio.sleep(1 / PROBES_PER_SECOND)
    line.close()
    return times


async def _deliver(
    url: str, space: SearchSpace, agents: list[FleetAgent], deliveries: int
) -> list[float]:
    """Time from each request for a campaign to the lease at the agent, ms."""
    line = Line(url, TOKEN)
    times = []
    for agent in random.choices(agents, k=deliveries):
        before = len(agent.leased_at)
        begun = time.monotonic()
        body = campaign(space, agent.device, [space.full_widths])
        status, answer = await line.request("POST", "/v1/campaigns", body)
        if status != 201:
            raise RuntimeError(f"the campaign was refused: {status} {answer.decode()}")
        while len(agent.leased_at) == before:
            if time.monotonic() - begun > LONGEST_DELIVERY_SECONDS:
                raise RuntimeError(f"no lease reached {agent.device}")
            await asyncio.sleep(0.002)
        times.append(1000 * (agent.leased_at[-1] - begun))
        await asyncio.sleep(1 / DELIVERIES_PER_SECOND)
    line.close()
    return times


async def _timed(line: Line, path: str) -> float:
    begun = time.perf_counter()
    status, body = await line.request("GET", path)
    if status != 200:
        raise RuntimeError(f"{path}: {status} {body.decode()}")
    return 1000 * (time.perf_counter() - begun)


def _row(name: str, times: list[float]) -> dict[str, str]:
    return {
        "request": name,
        "count": str(len(times)),
        "median, ms": f"{np.median(times):.1f}",
        "p99, ms": f"{np.percentile(times, 99):.1f}",
    }


def _data(seen: Observed, size: Size) -> dict[str, Any]:
    return {
        "agents": size.agents,
        "idle_seconds": size.idle_seconds,
        "deliveries": size.deliveries,
        "agents_requests_per_second": seen.requests_per_second,
        "agents_requests": seen.requests,
        "broken_connections": seen.broken,
        "delivery_median_ms": float(np.median(seen.delivery_ms)),
        "delivery_max_ms": max(seen.delivery_ms),
        "list_of_all_devices_ms": seen.list_devices_ms,
        "cadence": seen.cadence,
    }
