"""Who may call what, of every route in the API's description, equals a checked-in table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import bearer
from latency_service.app import create_app
from latency_service.auth.access import AGENT_TOKEN, ENROLMENT_TOKEN, USER_TOKEN
from latency_service.dashboard import links
from latency_service.settings import Settings
from tests.support.principals import Principals
from tests.support.settings import API_TOKEN

TABLE = Path(__file__).with_name("authorisation.csv")


@pytest.fixture(scope="module")
def principals(
    tmp_path_factory: pytest.TempPathFactory, clone_sqlite: Callable[[bool], str]
) -> Iterator[Principals]:
    folder = tmp_path_factory.mktemp("authorisation")
    settings = Settings(database_url=clone_sqlite(True), data_dir=folder, api_token=API_TOKEN)
    app = create_app(settings)
    with TestClient(app, headers=bearer(API_TOKEN)) as api:
        yield Principals(app, api)


@pytest.fixture(scope="module")
def found(principals: Principals) -> list[dict[str, str]]:
    """The table as the service behaves."""
    return [
        {"method": method, "path": path} | _row(principals, method, path)
        for method, path, _ in operations(principals.app)
    ]


def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every route, by path."""
    return sorted(
        (method.upper(), path, operation)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    )


def _row(principals: Principals, method: str, path: str) -> dict[str, str]:
    return {
        name: _verdict(name, principals.ask(name, method, path).status_code)
        for name in principals.names()
    }


def _verdict(name: str, status: int) -> str:
    """`yes` where the request passed, else the status that refused it.

    Users name things that do not exist, so that 404 means that they may ask.
    """
    refusals = {401, 403, 404, 409} if name == "foreign agent" else {401, 403}
    return str(status) if status in refusals else "yes"


def test_who_may_call_what_is_as_written_down(found: list[dict[str, str]], tmp_path: Path) -> None:
    now = tmp_path / TABLE.name
    now.write_text(_written(found))
    assert now.read_text() == TABLE.read_text(), f"if it is meant so: cp {now} {TABLE}"


def test_the_description_says_what_holds(
    principals: Principals, found: list[dict[str, str]]
) -> None:
    for row, (method, path, operation) in zip(found, operations(principals.app), strict=True):
        security = {
            kind: set(scopes)
            for one in operation.get("security", [])
            for kind, scopes in one.items()
        }
        for scope in ("read", "submit", "artifacts:write"):
            declared = not security or scope in security.get(USER_TOKEN, ())
            assert (row[scope] == "yes") == declared, (method, path, scope)
        assert (row["admin"] == "yes") == (not security or USER_TOKEN in security), path
        assert (row["agent"] == "yes") == (not security or AGENT_TOKEN in security), path
        assert (row["enrolment"] == "yes") == (not security or ENROLMENT_TOKEN in security), path
        assert (row["nobody"] == "yes") == (not security), path


def test_every_route_is_described(principals: Principals) -> None:
    described = set(principals.app.openapi()["paths"])
    pages = set(links.declared().values())
    assert set(_paths(principals.app.routes)) - described == pages - described


def test_a_route_without_a_declaration_is_found(principals: Principals) -> None:
    """It would answer whoever has any token, and no line of the table says so."""
    app = create_app(principals.app.state.settings)
    app.get("/v1/forgotten")(lambda: {})
    with TestClient(app, headers=bearer(API_TOKEN)) as api:
        assert api.get("/v1/forgotten", headers={"authorization": ""}).status_code == 401
        assert api.get("/v1/forgotten").status_code == 200
    with TABLE.open(newline="") as file:
        known = {(row["method"], row["path"]) for row in csv.DictReader(file)}
    assert ("GET", "/v1/forgotten") not in known
    assert {(method, path) for method, path, _ in operations(app)} - known == {
        ("GET", "/v1/forgotten")
    }


def _paths(routes: Sequence[Any]) -> Iterator[str]:
    """Paths of all routes, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route.path
        else:
            yield from _paths(included.routes)


def _written(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
