"""A service with a space and two agents, for tests of roles and limits."""

from __future__ import annotations

from dataclasses import dataclass

from latency_service.core.transport import Transport
from tests.support.processes import Served
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


def enrol(service: Served) -> Transport:
    """A connection with an enrolment token that has not been used."""
    return Transport(service.url, service.post("/v1/enrolments")["token"])


def register(service: Served, device: str) -> Transport:
    """A connection as the agent of a new device."""
    request = {
        "device": device,
        "agent_version": "0",
        "runtime_version": "1.20.0",
        "max_opset": 20,
        "providers": ["CPUExecutionProvider"],
    }
    with enrol(service) as enrolment:
        answer = enrolment.request("POST", "/v1/agents/register", json=request)
    return Transport(service.url, answer.json()["agent_token"])
