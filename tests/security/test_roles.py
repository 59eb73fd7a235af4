"""Each token opens its own doors and no others."""

from __future__ import annotations

import pytest

from latency_service.core.transport import ApiError, Transport
from tests.support.houses import House
from tests.support.processes import API_TOKEN

ID = "00000000000000000000000000000000"
API_DOORS = [
    ("POST", "/v1/enrolments"),
    ("GET", "/v1/devices"),
    ("GET", "/v1/devices/board"),
    ("GET", "/v1/lattices"),
    ("GET", f"/v1/lattices/{ID}"),
    ("POST", "/v1/spaces"),
    ("PUT", f"/v1/models/{'a' * 64}"),
    ("POST", "/v1/campaigns"),
    ("GET", "/v1/campaigns"),
    ("GET", f"/v1/campaigns/{ID}"),
    ("POST", f"/v1/campaigns/{ID}/cancel"),
    ("POST", "/v1/verifications"),
    ("GET", f"/v1/jobs/{ID}"),
    ("GET", "/v1/measurements"),
    ("GET", f"/v1/measurements/{ID}"),
    ("GET", "/v1/predictors"),
    ("GET", f"/v1/predictors/{ID}"),
    ("GET", f"/v1/predictors/{ID}/artifact"),
    ("POST", f"/v1/predictors/{ID}/predict"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs"),
    ("GET", f"/v1/runs/{ID}"),
    ("PUT", f"/v1/runs/{ID}/progress"),
    ("PUT", f"/v1/runs/{ID}/report"),
    ("PUT", f"/v1/runs/{ID}/failure"),
]
AGENT_DOORS = [
    ("POST", "/v1/agents/me/heartbeat"),
    ("POST", "/v1/leases"),
    ("POST", f"/v1/attempts/{ID}/renew"),
    ("PUT", f"/v1/attempts/{ID}/result"),
    ("PUT", f"/v1/attempts/{ID}/failure"),
]
OPEN_DOORS = ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"]


def refused(transport: Transport, method: str, path: str) -> int:
    """The status with which a request, well-formed or not, is refused."""
    with pytest.raises(ApiError) as error:
        transport.request(method, path, json={} if method in ("POST", "PUT") else None)
    assert error.value.cure
    return error.value.status


@pytest.mark.parametrize(("method", "path"), API_DOORS)
@pytest.mark.parametrize("role", ["enrolment", "agent", "nobody"])
def test_doors_of_the_api_token(method: str, path: str, role: str, house: House) -> None:
    assert refused(house.speaking_as(role), method, path) == (401 if role == "nobody" else 403)


@pytest.mark.parametrize(("method", "path"), AGENT_DOORS)
@pytest.mark.parametrize("role", ["enrolment", "api", "nobody"])
def test_doors_of_agents(method: str, path: str, role: str, house: House) -> None:
    assert refused(house.speaking_as(role), method, path) == (401 if role == "nobody" else 403)


def test_registering_takes_an_enrolment(house: House) -> None:
    assert refused(house.service.api, "POST", "/v1/agents/register") == 403
    assert refused(house.nobody, "POST", "/v1/agents/register") == 401


def test_without_any_token(house: House) -> None:
    with Transport(house.service.url) as anyone:
        for path in OPEN_DOORS:
            assert anyone.request("GET", path).status_code == 200
        for method, path in (*API_DOORS, *AGENT_DOORS):
            assert refused(anyone, method, path) == 401


def test_agents_may_read_spaces(house: House) -> None:
    assert house.agent.request("GET", f"/v1/spaces/{house.space_id}/graph.onnx").content
    assert refused(house.enrolment, "GET", f"/v1/spaces/{house.space_id}/graph.onnx") == 403


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"Basic {API_TOKEN}", API_TOKEN, f"Bearer {API_TOKEN} x"]
)
def test_authorization_that_is_none(header: str, house: House) -> None:
    with Transport(house.service.url) as anyone, pytest.raises(ApiError) as error:
        anyone.request("GET", "/v1/devices", headers={"authorization": header})
    assert error.value.status == 401


def test_metrics_and_readiness_tell_no_secrets(house: House) -> None:
    with Transport(house.service.url) as anyone:
        for path in OPEN_DOORS:
            assert API_TOKEN not in anyone.request("GET", path).text
