"""An enrolment token registers one agent, once, and takes over nobody's device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer

Enrol = Callable[..., str]
KEY = "k" * 32


def register(api: TestClient, token: str, device: str, **more: Any) -> httpx2.Response:
    body = {
        "device": device,
        "agent_version": "0",
        "runtime_version": "1.20.0",
        "max_opset": 20,
        "providers": ["CPUExecutionProvider"],
        **more,
    }
    return api.post("/v1/agents/register", json=body, headers=bearer(token))


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.json()["error"]["cure"]
    return answer.status_code, answer.json()["error"]["code"]


def agents(api: TestClient, device: str) -> list[str]:
    return [agent["id"] for agent in api.get(f"/v1/devices/{device}").json()["agents"]]


def test_a_token_registers_one_agent(api: TestClient, enrolment: str) -> None:
    assert register(api, enrolment, "one").status_code == 201
    for device in ("one", "two"):
        assert refusal(register(api, enrolment, device)) == (409, "enrolment_used")
    assert api.get("/v1/devices/two").status_code == 404


def test_a_stranger_takes_over_no_device(
    api: TestClient, agent: FakeAgent, enrol: Enrol, measure: Callable[..., dict[str, Any]]
) -> None:
    measure([[8, 8]])
    lease = agent.claim()
    assert lease is not None
    answer = register(api, enrol(), "board")
    assert refusal(answer) == (409, "device_exists")
    assert "enrolments create --device board" in answer.json()["error"]["cure"]
    assert agents(api, "board") == [agent.id]
    assert agent.renew(lease).status_code == 200
    assert agent.send(lease).status_code == 201


def test_a_refused_registration_uses_no_token_up(
    api: TestClient, agent: FakeAgent, enrolment: str, enrol: Enrol
) -> None:
    token = enrol()
    assert refusal(register(api, token, "board")) == (409, "device_exists")
    assert register(api, token, "phone").status_code == 201


def test_a_bound_token_registers_its_device_only(
    api: TestClient, agent: FakeAgent, enrol: Enrol
) -> None:
    for device in ("board", "phone"):
        token = enrol(device)
        assert refusal(register(api, token, "tablet")) == (409, "other_device")
        assert register(api, token, device).status_code == 201
    assert len(agents(api, "board")) == 2
    assert len(agents(api, "phone")) == 1


def test_a_registration_whose_answer_got_lost_can_be_repeated(
    api: TestClient, enrolment: str
) -> None:
    first = register(api, enrolment, "board", registration_key=KEY).json()
    second = register(api, enrolment, "board", registration_key=KEY, max_opset=21).json()
    assert second["agent_id"] == first["agent_id"]
    assert agents(api, "board") == [first["agent_id"]]
    statuses = [
        api.post("/v1/leases", headers=bearer(answer["agent_token"])).status_code
        for answer in (first, second)
    ]
    assert statuses == [401, 204], "the secret that nobody got is not valid"


@pytest.mark.parametrize("more", [{}, {"registration_key": "x" * 32}])
def test_nobody_else_can_repeat_it(api: TestClient, enrolment: str, more: dict[str, Any]) -> None:
    first = register(api, enrolment, "board", registration_key=KEY).json()
    assert refusal(register(api, enrolment, "board", **more)) == (409, "enrolment_used")
    assert api.post("/v1/leases", headers=bearer(first["agent_token"])).status_code == 204


def test_a_revoked_agent_cannot_repeat_its_registration(api: TestClient, enrolment: str) -> None:
    assert register(api, enrolment, "board", registration_key=KEY).status_code == 201
    [token] = api.get("/v1/tokens", params={"kind": "agent"}).json()
    assert api.delete(f"/v1/tokens/{token['id']}").status_code == 200
    assert register(api, enrolment, "board", registration_key=KEY).status_code == 401


def test_of_many_that_use_one_token_at_the_same_time_one_registers(
    api: TestClient, enrolment: str
) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = [f"board-{k}" for k in range(8)]
        answers = list(pool.map(lambda name: register(api, enrolment, name), names))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert len(api.get("/v1/devices").json()) == 1


def test_of_many_that_want_one_name_at_the_same_time_one_gets_it(
    api: TestClient, enrol: Enrol
) -> None:
    tokens = [enrol() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda token: register(api, token, "board"), tokens))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert len(agents(api, "board")) == 1


def test_a_revoked_token_registers_nobody(api: TestClient, enrolment: str) -> None:
    [token] = api.get("/v1/tokens", params={"kind": "enrolment"}).json()
    assert (token["name"], token["device"]) == ("any new device", None)
    api.delete(f"/v1/tokens/{token['id']}")
    assert refusal(register(api, enrolment, "board")) == (401, "token_revoked")


def test_the_list_shows_whom_a_token_has_registered(api: TestClient, agent: FakeAgent) -> None:
    rows = {row["kind"]: row for row in api.get("/v1/tokens").json()}
    assert rows["enrolment"]["agent_id"] == rows["agent"]["agent_id"] == agent.id
    assert rows["agent"]["name"] == "board"


@pytest.mark.parametrize("device", ["", "a b", "../x", "x" * 81])
def test_a_token_is_bound_to_a_possible_name(api: TestClient, device: str) -> None:
    assert api.post("/v1/enrolments", json={"device": device}).status_code == 422
