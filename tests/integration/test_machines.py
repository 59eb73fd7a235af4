"""Two machines of one name, and copies of one agent's state."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer

Enrol = Callable[..., str]
PI = {"machine": "aarch64", "processor": "Cortex-A72"}
SERVER = {"machine": "x86_64", "processor": "EPYC"}


def register(
    api: TestClient,
    token: str,
    facts: dict[str, Any],
    *ids: str,
    instance: str = "first",
    device: str = "board",
) -> httpx2.Response:
    body = {
        "device": device,
        "agent_version": "0",
        "runtime_version": "1.20.0",
        "max_opset": 20,
        "providers": ["CPUExecutionProvider"],
        "facts": facts,
        "hardware_ids": list(ids),
        "instance": instance,
    }
    return api.post("/v1/agents/register", json=body, headers=bearer(token))


def beat(api: TestClient, token: str, instance: str) -> str:
    body = {"state": "idle", "instance": instance}
    answer = api.post("/v1/agents/me/heartbeat", json=body, headers=bearer(token))
    return str(answer.json()["command"])


@pytest.mark.parametrize(
    ("facts", "ids"), [(SERVER, []), (PI, ["serial:b"])], ids=["another processor", "a twin"]
)
def test_a_second_machine_of_one_name_is_refused(
    api: TestClient, enrol: Enrol, facts: dict[str, Any], ids: list[str]
) -> None:
    assert register(api, enrol(), PI, "serial:a").status_code == 201
    answer = register(api, enrol("board"), facts, *ids)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "another_machine")
    assert "'board'" in error["message"]
    assert "--name NAME" in error["cure"]
    assert len(api.get("/v1/devices/board").json()["agents"]) == 1
    assert register(api, enrol(), facts, *ids, device="board-2").status_code == 201


def test_a_second_agent_of_the_same_machine_joins_it(api: TestClient, enrol: Enrol) -> None:
    for _ in range(2):
        assert register(api, enrol("board"), PI, "serial:a").status_code == 201
    assert len(api.get("/v1/devices/board").json()["agents"]) == 2


def test_agents_that_tell_nothing_of_their_machine_join(api: TestClient, enrol: Enrol) -> None:
    FakeAgent(api, enrol())
    FakeAgent(api, enrol("board"))
    assert len(api.get("/v1/devices/board").json()["agents"]) == 2


def test_a_cloned_card_is_refused(api: TestClient, enrolment: str) -> None:
    token = register(api, enrolment, PI, "serial:a").json()["agent_token"]
    assert register(api, token, PI, "serial:a", instance="restarted").status_code == 201
    answer = register(api, token, PI, "serial:b", instance="clone")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "another_machine")
    assert "copied" in error["message"]
    assert "identity.json" in error["cure"]
    assert beat(api, token, "restarted") == "continue"


def test_a_machine_that_was_moved_to_another_processor_keeps_its_name(
    api: TestClient, enrolment: str
) -> None:
    token = register(api, enrolment, PI, "serial:a").json()["agent_token"]
    assert register(api, token, SERVER, "serial:a").status_code == 201


def test_of_two_copies_at_work_the_older_is_stopped(api: TestClient, enrolment: str) -> None:
    """In containers the hardware tells nothing: the processes do."""
    token = register(api, enrolment, PI).json()["agent_token"]
    assert beat(api, token, "first") == "continue"
    assert register(api, token, PI, instance="copy").status_code == 201
    assert beat(api, token, "first") == "stop"
    assert beat(api, token, "copy") == "continue"


def test_agents_that_register_a_new_device_at_the_same_time_join_it(
    api: TestClient, enrol: Enrol
) -> None:
    names = [f"twin-{k}" for k in range(5)]
    enrolments = [(name, enrol(name)) for name in names for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda pair: register(api, pair[1], PI, "serial:a", device=pair[0]), enrolments
            )
        )
    assert [answer.status_code for answer in answers] == [201] * len(enrolments)
    assert len({answer.json()["device_id"] for answer in answers}) == len(names)
