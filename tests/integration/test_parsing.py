"""Campaigns need search spaces parsed, which takes a second for a large one: not while other
writers wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.spaces import service as spaces_service
from latency_service.spaces.slicing import SearchSpace
from tests.support.tiny import tiny_space


@pytest.fixture
def parsed(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that the uploaded space is parsed, whether in a writing transaction."""
    writing: set[int] = set()
    seen: list[bool] = []
    write, parse, uploaded = database.write, SearchSpace.from_bytes, tiny_space().data

    @contextmanager
    def watched() -> Iterator[Session]:
        with write() as session:
            writing.add(threading.get_ident())
            try:
                yield session
            finally:
                writing.discard(threading.get_ident())

    def from_bytes(data: bytes) -> SearchSpace:
        if data == uploaded:
            seen.append(threading.get_ident() in writing)
        return parse(data)

    monkeypatch.setattr(database, "write", watched)
    monkeypatch.setattr(SearchSpace, "from_bytes", from_bytes)
    return seen


def forget() -> None:
    """As a process that has not seen the space yet."""
    spaces_service._parsed._spaces.clear()


def test_no_space_is_parsed_while_other_writers_wait(
    api: TestClient, agent: FakeAgent, space_id: str, parsed: list[bool]
) -> None:
    def ask(seed: int) -> str:
        forget()
        body = {"space_id": space_id, "device": "board", "count": 12, "seed": seed}
        answer = api.post("/v1/campaigns", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def show(campaign_id: str) -> dict[str, Any]:
        return dict(api.get(f"/v1/campaigns/{campaign_id}").json())

    first, waiting = ask(0), ask(1)
    while show(first)["phase"] == "lattice" and (lease := agent.claim()):
        forget()
        assert agent.send(lease).status_code == 201
    assert [show(each)["phase"] for each in (first, waiting)] == ["measuring"] * 2
    forget()
    assert api.post(f"/v1/campaigns/{first}/cancel").status_code == 200
    assert len(parsed) >= 3
    assert not any(parsed)
