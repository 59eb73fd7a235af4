"""What is open to everybody, what is no token, and what an agent may fetch."""

from __future__ import annotations

import httpx2
import pytest

from latency_service.agent.testing import bearer
from latency_service.core.transport import ApiError, Transport
from tests.support.houses import House
from tests.support.processes import API_TOKEN

FAILURE = {"kind": "internal", "message": "gave up"}
OPEN_DOORS = ["/healthz", "/readyz"]
FOR_USERS = ["/docs", "/openapi.json", "/metrics"]


def refused(transport: Transport, method: str, path: str) -> int:
    """The status with which a request, well-formed or not, is refused."""
    with pytest.raises(ApiError) as error:
        transport.request(method, path, json={} if method in ("POST", "PUT") else None)
    assert error.value.cure
    return error.value.status


def test_without_any_token(house: House) -> None:
    with Transport(house.service.url) as anyone:
        for path in OPEN_DOORS:
            assert anyone.request("GET", path).status_code == 200
        for path in FOR_USERS:
            assert refused(anyone, "GET", path) == 401


def test_agents_fetch_only_the_space_that_their_attempt_needs(house: House) -> None:
    path = f"/v1/spaces/{house.space_id}/graph.onnx"
    assert refused(house.agent, "GET", path) == 404
    attempt = house.lease()
    assert house.agent.request("GET", path).content
    assert refused(house.stranger, "GET", path) == 404
    assert refused(house.enrolment, "GET", path) == 403
    house.agent.request("PUT", f"/v1/attempts/{attempt}/failure", json=FAILURE)
    assert refused(house.agent, "GET", path) == 404


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"Basic {API_TOKEN}", API_TOKEN, f"Bearer {API_TOKEN} x"]
)
def test_authorization_that_is_none(header: str, house: House) -> None:
    with Transport(house.service.url) as anyone, pytest.raises(ApiError) as error:
        anyone.request("GET", "/v1/devices", headers={"authorization": header})
    assert error.value.status == 401


def test_metrics_and_readiness_tell_no_secrets(house: House) -> None:
    for path in (*OPEN_DOORS, *FOR_USERS):
        answer = httpx2.get(house.service.url + path, headers=bearer(API_TOKEN))
        assert answer.status_code == 200
        assert API_TOKEN not in answer.text
