"""A full disk and a read-only database: 503 in plain words, nothing half stored, and no restart."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import event, text
from starlette.testclient import TestClient

from latency_service.agent.testing import bearer
from latency_service.core.transport import ApiError
from latency_service.db.engine import Database
from latency_service.web import readiness
from latency_service.web.logging import configure_logging
from tests.support.databases import Clone, migrate, postgres_server
from tests.support.disks import Disk, small_disk
from tests.support.processes import Served, Stage, serve
from tests.support.settings import API_TOKEN, POSTGRESQL_ONLY
from tests.support.tiny import tiny_space

MESSAGES = {
    "database_full": "The database cannot write: its disk is full.",
    "database_unavailable": "The database's file cannot be opened, read or written.",
}
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
def altered_postgresql(database: Database, setting: str, value: str) -> Iterator[None]:
    """A database with a setting of its own."""
    name = database.engine.url.database
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def switch(action: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f'ALTER DATABASE "{name}" {action}'.encode())
        database.engine.dispose()

    switch(f"SET {setting} = '{value}'")
    try:
        yield
    finally:
        switch(f"RESET {setting}")


def read_only(database: Database) -> AbstractContextManager[None]:
    if database.dialect == "sqlite":
        return read_only_sqlite(database)
    return altered_postgresql(database, "default_transaction_read_only", "on")


def test_a_read_only_database_is_told_and_recovered_from(
    api: TestClient, database: Database, space_id: str, now: None
) -> None:
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


@pytest.fixture
def service_log(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What the service writes to its log, as `latency-service serve` does."""
    configure_logging(as_json=True)
    yield lambda: capsys.readouterr().err
    structlog.reset_defaults()


@contextmanager
def parameters(database: Database) -> Iterator[list[str]]:
    """Texts of the parameters that statements are sent with meanwhile; short ones are anywhere."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, _statement: str, values: Any, *_: Any) -> None:
        found = values.values() if isinstance(values, dict) else values
        sent.extend(str(value) for value in found if len(str(value)) > 12)

    event.listen(database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine, "before_cursor_execute", note)


@contextmanager
def lost_table(database: Database, name: str) -> Iterator[None]:
    """Every statement about a table fails, with whatever parameters it has."""
    with database.write() as session:
        session.execute(text(f"ALTER TABLE {name} RENAME TO lost"))
    yield
    with database.write() as session:
        session.execute(text(f"ALTER TABLE lost RENAME TO {name}"))


@pytest.mark.parametrize("table", ["runs", "token_secrets", "web_sessions"])
def test_no_log_line_of_a_fault_has_a_parameter(
    table: str, app: FastAPI, database: Database, space_id: str, service_log: Callable[[], str]
) -> None:
    """A user's text, the digest of a token, the hash of a browser's session."""
    known, named = bearer(API_TOKEN), {**_run(space_id), "name": "the name of a user"}
    with TestClient(app, raise_server_exceptions=False) as client:
        token = client.post("/v1/enrolments", headers=known).json()["token"]
        requests: dict[str, dict[str, Any]] = {
            "runs": {"method": "POST", "url": "/v1/runs", "json": named, "headers": known},
            "token_secrets": {"method": "GET", "url": "/v1/devices", "headers": bearer(token)},
            "web_sessions": {
                "method": "GET",
                "url": "/devices",
                "headers": {"cookie": "latency_session_default=anything"},
            },
        }
        with lost_table(database, table), parameters(database) as sent:
            status = client.request(**requests[table]).status_code
    log = service_log()
    assert status in (500, 503), "SQLite's word for a lost table is that of an outage"
    assert table in log
    assert sent
    assert [value for value in sent if value in log] == []


@pytest.fixture
def limited_disk(tmp_path: Path, clone_sqlite: Clone) -> Disk:
    """Files of the service cannot grow: what any user may do to a process."""

    def limit(pid: int, size: int) -> None:
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))

    url = sqlite_in(tmp_path, clone_sqlite)
    return Disk(
        database_url=url, fill=lambda pid: limit(pid, 1024), free=lambda pid: limit(pid, -1)
    )


@pytest.fixture
def full_disk_of_sqlite(tmp_path: Path, clone_sqlite: Clone) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, megabytes=32) as ballast:
        url = sqlite_in(folder, clone_sqlite)
        yield Disk(database_url=url, fill=ballast.fill, free=ballast.free)


@pytest.fixture
def full_disk_of_postgresql() -> Iterator[Disk]:
    """All of a server lies on it: tables, temporary files and the write-ahead log."""
    with (
        tempfile.TemporaryDirectory(prefix="pgdisk") as folder,
        small_disk(Path(folder), megabytes=128) as ballast,
        postgres_server(Path(folder) / "data") as server,
    ):
        migrate(server.get_uri())
        try:
            yield Disk(database_url=server.get_uri(), fill=ballast.fill, free=ballast.free)
        finally:
            ballast.free()  # the server needs room to stop


def sqlite_in(folder: Path, clone_sqlite: Clone) -> str:
    """The address of a migrated database in a folder."""
    shutil.move(clone_sqlite(True).removeprefix("sqlite:///"), folder / "service.db")
    return f"sqlite:///{folder / 'service.db'}"


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("limited_disk", {"database_unavailable", "database_full"}),
        ("full_disk_of_sqlite", {"database_full"}),
        ("full_disk_of_postgresql", {"database_full"}),
    ],
)
def test_a_full_disk_is_told_and_recovered_from(
    kind: str, codes: set[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    disk: Disk = request.getfixturevalue(kind)
    stage = Stage(tmp_path, tmp_path / "calibrations")
    try:
        service = serve(stage, disk.database_url)
        space_id = service.api.request("POST", "/v1/spaces", content=tiny_space().data).json()["id"]
        disk.fill(service.part.pid)
        stored = _store_until_refused(service, space_id, codes)
        ready = stage.eventually(lambda: _refusal(service, "GET", "/readyz"), "it is not ready")
        assert (ready.status, ready.code) == (503, "foreign_answer")
        assert any(code in ready.message for code in codes)
        assert len(service.get("/v1/runs", limit=1000)) == stored
        disk.free(service.part.pid)
        service.wait_ready()
        service.post("/v1/runs", _run(space_id))
        runs = service.get("/v1/runs", limit=1000)
        assert len(runs) == stored + 1
        assert all(run["report"] == REPORT for run in runs)
    finally:
        stage.close()


@POSTGRESQL_ONLY
def test_a_limit_on_temporary_files_is_no_full_disk(database_url: str) -> None:
    database = Database(database_url)
    with altered_postgresql(database, "temp_file_limit", "1MB"):
        assert readiness.look(database) is None


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
    assert (error.message, bool(error.cure)) == (MESSAGES[error.code], True)
    return count


def _refusal(service: Served, method: str, path: str, body: Any = None) -> ApiError | None:
    """The error that a request is answered with, None for any other answer."""
    try:
        service.api.request(method, path, json=body)
    except ApiError as error:
        return error
    return None
