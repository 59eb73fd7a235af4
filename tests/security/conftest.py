"""One service for all tests of this folder, and two agents' tokens to misuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from latency_service.core.transport import Transport
from tests.support.houses import (
    MAX_JSON_BYTES,
    MAX_MODEL_BYTES,
    MAX_SPACE_BYTES,
    House,
    enrol,
    register,
)
from tests.support.processes import Stage, serve
from tests.support.tiny import tiny_space


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
    enrolment = enrol(service)
    space = service.api.request("POST", "/v1/spaces", content=tiny_space().data).json()
    agent, stranger = (register(service, name) for name in ("board", "other"))
    made = House(
        service, enrolment, agent, stranger, Transport(service.url, "not-a-token"), space["id"]
    )
    yield made
    for transport in (enrolment, agent, stranger, made.nobody):
        transport.close()
    stage.close()
