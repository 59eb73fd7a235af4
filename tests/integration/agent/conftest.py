from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from latency_service.agent.state import State
from tests.support.agents import Agent, FakeProfiler
from tests.support.fake_agent_service import FakeAgentService


@pytest.fixture
def fake_service() -> Iterator[FakeAgentService]:
    service = FakeAgentService()
    yield service
    service.stop()


@pytest.fixture
def profiler() -> FakeProfiler:
    return FakeProfiler()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def start(
    fake_service: FakeAgentService, state: State, profiler: FakeProfiler
) -> Iterator[Callable[..., Agent]]:
    """A function that starts an agent; stopped at the end."""
    agents: list[Agent] = []

    def begin(real: Any = None) -> Agent:
        agents.append(Agent(fake_service.url, state, real or profiler))
        return agents[-1]

    yield begin
    for agent in agents:
        agent.end()
