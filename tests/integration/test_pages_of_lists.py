"""Every list of the API comes in pages, in one way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from tests.support.small_spaces import space
from tests.support.tiny import tiny_space

#: Lists that are as long as one device's class or one answer, not as the fleet.
SHORT = {"/v1/devices/{name}/peers"}


def test_every_list_takes_limit_and_offset(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        answer = methods.get("get", {}).get("responses", {}).get("200", {})
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if schema.get("type") == "array" and path not in SHORT:
            names = {one["name"] for one in methods["get"].get("parameters", [])}
            assert {"limit", "offset"} <= names, path


def test_devices_and_spaces_are_read_page_by_page(
    api: TestClient, enrol: Callable[..., str]
) -> None:
    for name in ("c", "a", "b"):
        FakeAgent(api, enrol(), name)
    for each in (tiny_space(), space()):
        api.post("/v1/spaces", content=each.data)

    def page(path: str, limit: int, offset: int) -> list[str]:
        rows = api.get(path, params={"limit": limit, "offset": offset}).json()
        return [row["name"] for row in rows]

    assert page("/v1/devices", 2, 0) == ["a", "b"]
    assert page("/v1/devices", 2, 2) == ["c"]
    assert page("/v1/spaces", 1, 0) + page("/v1/spaces", 1, 1) == page("/v1/spaces", 9, 0)
    assert page("/v1/spaces", 1, 2) == []


@pytest.mark.parametrize("path", ["/v1/devices", "/v1/spaces", "/v1/lattices"])
def test_a_page_has_a_limit(api: TestClient, path: str) -> None:
    assert api.get(path, params={"limit": 1001}).status_code == 422


def test_an_unknown_device_names_some_that_are_known(
    api: TestClient, enrol: Callable[..., str]
) -> None:
    for number in range(12):
        FakeAgent(api, enrol(), f"board{number:02}")
    message = api.get("/v1/devices/x").json()["error"]["message"]
    assert "board00, board01" in message
    assert message.endswith("board09, ….")
