"""Databases for every test that wants one: SQLite and PostgreSQL, the latter a real server from a
wheel; and calibrations of this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import calibrations as calibration_files
from tests.support.databases import Clone, migrate, postgres_server, wipe


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL server's maintenance database; one server for the whole session."""
    import psutil
    import psycopg

    with postgres_server() as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # nothing here needs to outlive a power cut
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
        postmaster = psutil.Process(server.get_pid())
        # at once: writing hundreds of databases out takes longer than the tests
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)


@pytest.fixture(scope="session")
def clone_postgres(request: pytest.FixtureRequest) -> Clone:
    """A function that makes a database, migrated or empty, and returns its address."""
    import psycopg

    address = request.getfixturevalue("postgres")
    template = f"t{uuid.uuid4().hex}"

    def create(name: str, source: str) -> str:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        return str(address).replace("/postgres?", f"/{name}?")

    made = False

    def clone(migrated: bool) -> str:
        nonlocal made
        if migrated and not made:
            migrate(create(template, "template0"))
            made = True
        return create(f"d{uuid.uuid4().hex}", template if migrated else "template0")

    return clone


@pytest.fixture(scope="session")
def clone_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("sqlite")
    template = folder / "template.db"

    def clone(migrated: bool) -> str:
        path = folder / f"{uuid.uuid4().hex}.db"
        if migrated:
            if not template.exists():
                migrate(f"sqlite:///{template}")
            shutil.copyfile(template, path)
        return f"sqlite:///{path}"

    return clone


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def clean_postgres() -> list[str]:
    """Addresses of migrated databases that a test has left and the next may have: making one takes
    longer.
    """
    return []


@pytest.fixture
def database_url(dialect: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database of its own, on each dialect."""
    if dialect == "sqlite":
        yield request.getfixturevalue("clone_sqlite")(True)
        return
    clone, clean = (request.getfixturevalue(name) for name in ("clone_postgres", "clean_postgres"))
    url = clean.pop() if clean else clone(True)
    yield url
    if wipe(url):
        clean.append(url)


@pytest.fixture
def empty_database_url(dialect: str, request: pytest.FixtureRequest) -> str:
    """A database without tables, on each dialect."""
    return str(request.getfixturevalue(_clone_for(dialect))(False))


@pytest.fixture(scope="session")
def calibrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests have found out about this machine's canaries, in all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "calibrations"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def profiler_state(tmp_path: Path, calibrations: Path) -> Iterator[Path]:
    """A profiler's state folder with the calibrations of earlier tests."""
    with calibration_files.known(tmp_path / "profiler", calibrations) as folder:
        yield folder


def _clone_for(dialect: str) -> str:
    return {"sqlite": "clone_sqlite", "postgresql": "clone_postgres"}[dialect]
