"""An attempt belongs to one agent: to others it does not even exist."""

from __future__ import annotations

import pytest

from latency_service.core.transport import ApiError
from tests.support.houses import House

FAILURE = {"kind": "internal", "message": "gave up"}


def result(latency_ms: float = 0.1) -> dict[str, object]:
    one = {
        "at_seconds": 0.1,
        "latency_ms": latency_ms,
        "runs": 5,
        "before_ms": [0.1],
        "after_ms": [0.1],
    }
    return {
        "fingerprint": {
            "runtime": {
                "provider": "CPUExecutionProvider",
                "intra_threads": 1,
                "batch": 1,
                "precision": "fp32",
            },
            "facts": {"cpu": "test"},
        },
        "calibration": {"canaries": ["tiny"], "floor_ms": [0.1]},
        "results": [{"index": 0, "rounds": [one] * 3, "stopped": "precise"}],
        "wall_seconds": 1.0,
        "timed_seconds": 0.5,
    }


def test_another_agents_attempt_is_not_found_whatever_is_asked_of_it(house: House) -> None:
    attempt = house.lease()
    asked = [("POST", "renew", None), ("PUT", "result", result()), ("PUT", "failure", FAILURE)]
    for method, what, body in asked:
        with pytest.raises(ApiError) as error:
            house.stranger.request(method, f"/v1/attempts/{attempt}/{what}", json=body)
        assert error.value.status == 404
    assert house.agent.request("POST", f"/v1/attempts/{attempt}/renew").json()["lease_seconds"] > 0
    assert (
        house.agent.request("PUT", f"/v1/attempts/{attempt}/result", json=result()).status_code
        == 201
    )


def test_a_result_cannot_be_replaced(house: House) -> None:
    attempt = house.lease()
    path = f"/v1/attempts/{attempt}/result"
    assert house.agent.request("PUT", path, json=result()).status_code == 201
    assert house.agent.request("PUT", path, json=result()).status_code == 200
    with pytest.raises(ApiError) as error:
        house.agent.request("PUT", path, json=result(latency_ms=0.05))
    assert error.value.status == 409


def test_a_stranger_gets_no_work_of_another_device(house: House) -> None:
    attempt = house.lease()
    house.agent.request("PUT", f"/v1/attempts/{attempt}/failure", json=FAILURE)
    assert house.stranger.request("POST", "/v1/leases", params={"wait": 0}).status_code == 204


def test_a_device_of_another_name_cannot_be_taken_over_with_an_agents_token(house: House) -> None:
    request = {
        "device": "board",
        "agent_version": "0",
        "runtime_version": "1.20.0",
        "max_opset": 20,
        "providers": ["CPUExecutionProvider"],
    }
    with pytest.raises(ApiError) as error:
        house.stranger.request("POST", "/v1/agents/register", json=request)
    assert error.value.status in (403, 409)
