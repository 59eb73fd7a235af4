"""A full disk and a read-only database: 503 in plain words, nothing half stored, and no restart."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from latency_service.core.transport import ApiError
from latency_service.db.engine import Database
from latency_service.web import readiness
from tests.support.databases import Clone
from tests.support.processes import Served, Stage, serve
from tests.support.tiny import tiny_space

REPORT = {"series": [0.123456789 * k for k in range(20_000)]}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness is looked at anew each time."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", -1.0)


@contextmanager
def read_only_sqlite(database: Database) -> Iterator[None]:
    def set_up(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    event.listen(database.engine, "connect", set_up)
    database.engine.dispose()
    yield
    event.remove(database.engine, "connect", set_up)
    database.engine.dispose()


@contextmanager
def read_only_postgresql(database: Database) -> Iterator[None]:
    name = database.engine.url.database
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def switch(action: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f'ALTER DATABASE "{name}" {action}'.encode())
        database.engine.dispose()

    switch("SET default_transaction_read_only = on")
    yield
    switch("RESET default_transaction_read_only")


def test_a_read_only_database_is_told_and_recovered_from(
    api: TestClient, database: Database, space_id: str, now: None
) -> None:
    read_only = read_only_sqlite if database.dialect == "sqlite" else read_only_postgresql
    with read_only(database):
        answer = api.post("/v1/enrolments")
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "database_read_only"
        assert error["message"] == "The database cannot be written: it is read-only."
        assert int(answer.headers["retry-after"]) > 0
        assert api.get("/v1/spaces").status_code == 200
        ready = api.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "database_read_only")
    assert api.get("/readyz").status_code == 200
    assert api.post("/v1/enrolments").status_code == 201


class Disk:
    """The disk of a service that runs out of room, and gets it back."""

    def __init__(self, fill: Callable[[Served], None], free: Callable[[Served], None]) -> None:
        self.fill = fill
        self.free = free


@pytest.fixture
def limited_disk() -> Disk:
    """Files of the service cannot grow: what any user may do to a process."""

    def limit(service: Served, size: int) -> None:
        process = psutil.Process(service.part.pid)
        process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))

    return Disk(lambda service: limit(service, 1024), lambda service: limit(service, -1))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of its own, filled by another file."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("mounting needs more rights than this process has")
    ballast = folder / "ballast"

    def fill(_: Served) -> None:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass

    yield Disk(fill, lambda _: ballast.unlink())
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("limited_disk", {"database_unavailable", "database_full"}),
        ("full_disk", {"database_full"}),
    ],
)
def test_a_full_disk_is_told_and_recovered_from(
    kind: str, codes: set[str], request: pytest.FixtureRequest, tmp_path: Path, clone_sqlite: Clone
) -> None:
    disk: Disk = request.getfixturevalue(kind)
    folder = tmp_path / "disk"
    folder.mkdir(exist_ok=True)
    database = folder / "service.db"
    shutil.move(clone_sqlite(True).removeprefix("sqlite:///"), database)
    stage = Stage(tmp_path, tmp_path / "calibrations")
    try:
        service = serve(stage, f"sqlite:///{database}")
        space_id = service.api.request("POST", "/v1/spaces", content=tiny_space().data).json()["id"]
        disk.fill(service)
        stored = _store_until_refused(service, space_id, codes)
        ready = stage.eventually(lambda: _refusal(service, "GET", "/readyz"), "it is not ready")
        assert (ready.status, ready.code) == (503, "foreign_answer")
        assert any(code in ready.message for code in codes)
        assert len(service.get("/v1/runs", limit=1000)) == stored
        disk.free(service)
        service.wait_ready()
        service.post("/v1/runs", _run(space_id))
        runs = service.get("/v1/runs", limit=1000)
        assert len(runs) == stored + 1
        assert all(run["report"] == REPORT for run in runs)
    finally:
        stage.close()


def _run(space_id: str) -> dict[str, Any]:
    return {
        "name": "r",
        "method": "m",
        "space_id": space_id,
        "predictor_id": None,
        "budget_ms": 1,
        "report": REPORT,
    }


def _store_until_refused(service: Served, space_id: str, codes: set[str]) -> int:
    """Record runs until one is refused; how many were stored."""
    count = 0
    while (error := _refusal(service, "POST", "/v1/runs", _run(space_id))) is None:
        count += 1
    assert (error.status, error.code in codes) == (503, True), error
    assert error.cure
    return count


def _refusal(service: Served, method: str, path: str, body: Any = None) -> ApiError | None:
    """The error that a request is answered with, None for any other answer."""
    try:
        service.api.request(method, path, json=body)
    except ApiError as error:
        return error
    return None
