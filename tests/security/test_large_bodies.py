"""Large bodies that many requests send at once: they share a limited amount of memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import random
from time import monotonic

import httpx2
import psutil
import pytest

from latency_service.agent.testing import FakeAgent
from tests.support.databases import Clone
from tests.support.processes import Served, Stage, serve
from tests.support.sockets import connect, head, read_answer
from tests.support.tiny import campaign_of, tiny_space

MEMORY_BYTES = 4 << 20
#: 16 MiB that arrive as less than 200 kB.
BOMB = gzip.compress(
    json.dumps(
        {"results": "".join(f"{random():.12f}" + "a" * 1010 for _ in range(16 << 10))}
    ).encode()
)
MOST_BYTES = 256 << 20


@pytest.fixture
def service(tmp_path: Path, clone_sqlite: Clone) -> Iterator[Served]:
    stage = Stage(tmp_path, tmp_path / "calibrations")
    yield serve(stage, clone_sqlite(True), LATENCY_SERVICE_JSON_MEMORY_BYTES=str(MEMORY_BYTES))
    stage.close()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_compressed_results_at_once_take_little_memory(service: Served) -> None:
    """All by an agent that has work, or the service would not read them."""
    service.api.request("POST", "/v1/spaces", content=tiny_space().data)
    with httpx2.Client(base_url=service.url) as http:
        agent = FakeAgent(http, service.post("/v1/enrolments")["token"], "board")
        service.post("/v1/campaigns", campaign_of(tiny_space(), 1, device="board"))
        lease = agent.claim(wait=5)
    assert lease is not None
    path, token = f"/v1/attempts/{lease['attempt_id']}/result", agent.token
    sent = head(
        "PUT",
        path,
        authorization=f"Bearer {token}",
        content_type="application/json",
        content_encoding="gzip",
        content_length=str(len(BOMB)),
    )

    def send(_: int) -> int:
        with connect(service.url, sent, BOMB) as connection:
            return status(read_answer(connection)[0])

    process = psutil.Process(service.part.pid)
    send(0)
    before, longest = process.memory_info().rss, 0
    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(send, number) for number in range(64)]
        while not all(answer.done() for answer in answers):
            longest = max(longest, process.memory_info().rss - before)
            began = monotonic()
            service.get("/healthz")
            assert monotonic() - began < 2.0
    found = [answer.result() for answer in answers]
    assert set(found) == {422, 503}
    assert longest <= MOST_BYTES
