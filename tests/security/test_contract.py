"""The service answers as its description says, whatever it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.settings import Settings
from tests.support.api_contract import Callers, try_all
from tests.support.databases import Clone
from tests.support.predictions import publish
from tests.support.settings import API_TOKEN
from tests.support.tiny import tiny_space


@pytest.fixture
def app(clone_sqlite: Clone, tmp_path: Path) -> FastAPI:
    settings = Settings(
        database_url=clone_sqlite(True),
        data_dir=tmp_path,
        api_token=API_TOKEN,
        max_wait_seconds=0.0,
        lease_seconds=3600.0,
    )
    return create_app(settings)


@pytest.fixture
def callers(app: FastAPI) -> Iterator[Callers]:
    """Something of everything is in the database."""
    with TestClient(app, headers=bearer(API_TOKEN)) as api:
        agent = FakeAgent(api, str(api.post("/v1/enrolments").json()["token"]))
        space_id = str(api.post("/v1/spaces", content=tiny_space().data).json()["id"])
        predictor_id = publish(api, app.state.database, agent, space_id)
        body = {"space_id": space_id, "device": "board", "purpose": "measure", "widths": [[8, 8]]}
        campaign_id = str(api.post("/v1/campaigns", json=body).json()["id"])
        lease = agent.claim()
        assert lease is not None
        yield Callers(
            user=API_TOKEN,
            agent=agent.token,
            ids={
                "predictor_id": predictor_id,
                "space_id": space_id,
                "sha256": space_id,
                "name": "board",
                "campaign_id": campaign_id,
                "attempt_id": str(lease["attempt_id"]),
                "job_id": str(lease["job_id"]),
                "measurement_id": str(api.get("/v1/measurements").json()[0]["id"]),
            },
        )


def check(app: FastAPI, callers: Callers, examples: int) -> None:
    found = try_all(app, callers, examples)
    assert not found.failures, "\n\n".join(str(one) for one in found.failures)
    operations = {
        f"{method.upper()} {path}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    # the description itself is what the requests are made from
    assert set(found.answered) == operations - {"GET /openapi.json"}


def test_the_api_keeps_to_its_description(app: FastAPI, callers: Callers) -> None:
    check(app, callers, examples=4)


@pytest.mark.long
def test_the_api_keeps_to_its_description_over_many_requests(
    app: FastAPI, callers: Callers
) -> None:
    check(app, callers, examples=150)


def test_no_request_takes_an_address(app: FastAPI) -> None:
    """So nobody can have the service fetch something for them."""
    description = app.openapi()
    schemas = description["components"]["schemas"]

    def names_of(part: Any, seen: set[str]) -> Iterator[tuple[str, str]]:
        if isinstance(part, list):
            for each in part:
                yield from names_of(each, seen)
        elif isinstance(part, dict):
            reference = str(part.get("$ref", "")).rpartition("/")[2]
            if reference and reference not in seen:
                seen.add(reference)
                yield from names_of(schemas[reference], seen)
            for name, schema in part.get("properties", {}).items():
                yield name, str(schema.get("format"))
            for value in part.values():
                yield from names_of(value, seen)

    found: set[tuple[str, str]] = set()
    for methods in description["paths"].values():
        for route in methods.values():
            found |= set(names_of(route.get("requestBody", {}), set()))
            for one in route.get("parameters", []):
                found.add((one["name"], str(one["schema"].get("format"))))
    assert ("space_id", "None") in found
    addresses = {"url", "uri", "href", "callback", "webhook"}
    for name, form in found:
        assert form not in ("uri", "uri-reference"), name
        assert addresses.isdisjoint(name.lower().split("_")), name
