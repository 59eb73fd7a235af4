"""One service for all tests of this folder, and two agents' tokens to misuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from latency_service.core.transport import Transport
from tests.support.processes import Served, Stage, serve
from tests.support.tiny import campaign_of, tiny_space

MAX_SPACE_BYTES = 20_000
MAX_MODEL_BYTES = 30_000
MAX_JSON_BYTES = 40_000


@dataclass
class House:
    """A service with one space, an enrolment, and two registered agents of different devices."""

    service: Served
    enrolment: Transport
    agent: Transport
    stranger: Transport
    nobody: Transport
    space_id: str

    def speaking_as(self, role: str) -> Transport:
        if role == "api":
            return self.service.api
        transport: Transport = getattr(self, role)
        return transport

    def lease(self) -> str:
        """A fresh attempt held by `agent`."""
        request = campaign_of(tiny_space(), 1, device="board")
        self.service.post("/v1/campaigns", request)
        answer = self.agent.request("POST", "/v1/leases", params={"wait": 5})
        return str(answer.json()["attempt_id"])


def register(url: str, enrolment: Transport, device: str) -> Transport:
    request = {
        "device": device,
        "agent_version": "0",
        "runtime_version": "1.20.0",
        "max_opset": 20,
        "providers": ["CPUExecutionProvider"],
    }
    return Transport(
        url, enrolment.request("POST", "/v1/agents/register", json=request).json()["agent_token"]
    )


@pytest.fixture(scope="session")
def house(
    tmp_path_factory: pytest.TempPathFactory, clone_sqlite: Callable[[bool], str]
) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("security")
    stage = Stage(folder, folder / "calibrations")
    service = serve(
        stage,
        clone_sqlite(True),
        LATENCY_SERVICE_MAX_SPACE_BYTES=str(MAX_SPACE_BYTES),
        LATENCY_SERVICE_MAX_MODEL_BYTES=str(MAX_MODEL_BYTES),
        LATENCY_SERVICE_MAX_JSON_BYTES=str(MAX_JSON_BYTES),
    )
    enrolment = Transport(service.url, service.post("/v1/enrolments")["token"])
    space = service.api.request("POST", "/v1/spaces", content=tiny_space().data).json()
    agent, stranger = (register(service.url, enrolment, name) for name in ("board", "other"))
    made = House(
        service, enrolment, agent, stranger, Transport(service.url, "not-a-token"), space["id"]
    )
    yield made
    for transport in (enrolment, agent, stranger, made.nobody):
        transport.close()
    stage.close()
