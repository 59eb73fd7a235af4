"""The benchmarks of the queue in their quick forms, and what their agents make of faults."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import claims, fleet_scale
from benchmarks.cases.fleet_scale import Observed
from benchmarks.support.fleet import FleetAgent, at_work
from benchmarks.support.harness import Outcome
from benchmarks.support.served import served
from tests.support.health_polling import health_polled

CADENCE = {"wait_seconds": 0.01, "poll_seconds": 0.01, "heartbeat_seconds": 0.01}
BEAT = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s"
NO_JOB = b"HTTP/1.1 204 No Content\r\n\r\n"


def values(outcome: Outcome) -> dict[str, float]:
    return {bar.bar: bar.value for bar in outcome.bars}


@pytest.mark.long
def test_claims_finds_no_double_and_no_error() -> None:
    found = values(claims.run(quick=True))
    for dialect in ("sqlite", "postgresql"):
        assert found[f"{dialect}: jobs finished twice"] == 0
        assert found[f"{dialect}: jobs not finished"] == 0
        assert found[f"{dialect}: errors that reached a process"] == 0
        assert found[f"{dialect}: doubles of select and update"] >= 1


@pytest.mark.long
def test_every_simulated_agent_is_served() -> None:
    found = values(fleet_scale.run(quick=True))
    assert found["agents' requests that failed"] == 0
    assert found["p99 from a campaign to its lease"] < 10_000
    assert found["agents' requests whose connection broke"] == 0


async def at_work_with(answer: Callable[[bytes, int], bytes | None], seconds: float) -> FleetAgent:
    """An agent at the end of its work with a service that gives these answers to heads, numbered
    from 0, and closes the connection in place of the answer None.
    """
    number = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        with closing(writer), suppress(EOFError):
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                if b"heartbeat" in asked:
                    await reader.readuntil(b"}")
                number += 1
                if (found := answer(asked, number - 1)) is None:
                    break
                writer.write(found)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        agent = FleetAgent(device="board", url=url, token="t", cadence=CADENCE)
        async with at_work([agent]):
            await asyncio.sleep(seconds)
    return agent


def beat(content: bytes) -> bytes:
    return BEAT % (len(content), content)


def test_an_agent_whose_connection_breaks_counts_it_and_goes_on() -> None:
    good = beat(json.dumps({"cadence": CADENCE}).encode())

    def answer(asked: bytes, number: int) -> bytes | None:
        return None if number % 5 == 0 else good if b"heartbeat" in asked else NO_JOB

    agent = asyncio.run(at_work_with(answer, 1.0))
    assert agent.errors == []
    assert 2 <= agent.broken <= agent.requests / 2


def test_what_ends_an_agent_ends_the_benchmark() -> None:
    def answer(asked: bytes, number: int) -> bytes | None:
        return beat(b"no JSON") if b"heartbeat" in asked else NO_JOB

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(at_work_with(answer, 0.5))
    assert caught.group_contains(json.JSONDecodeError)


def test_a_fleet_whose_connections_break_does_not_pass() -> None:
    seen = Observed(
        cpu_share=0.0,
        requests_per_second=1.0,
        probe_ms={"healthz": [1.0]},
        delivery_ms=[1.0],
        list_devices_ms=1.0,
        requests=1000,
        errors=0,
        broken=2,
        cadence=CADENCE,
    )
    missed = [bar.bar for bar in fleet_scale.bars(seen) if not bar.holds]
    assert missed == ["agents' requests whose connection broke"]


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/not-migrated.db"
    with pytest.raises(RuntimeError, match="latency-service db upgrade"), served(url):
        pass


def test_health_that_nobody_polls_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    unusable: Any = 5
    with pytest.raises(RuntimeError, match="healthz"), health_polled(unusable, os.getpid()):
        pass
    assert "Traceback" in capfd.readouterr().err  # of the process that was to poll
