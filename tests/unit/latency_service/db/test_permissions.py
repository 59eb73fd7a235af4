"""A new database belongs to its owner alone: it holds delivered weights and the tokens' key."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_service.db.engine import Database, make_engine
from latency_service.db.migrate import upgrade
from latency_service.settings import Settings


@pytest.fixture(autouse=True)
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_database_and_its_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    upgrade(settings)
    database = Database(settings.url)
    with database.write() as session:
        session.connection().exec_driver_sql("INSERT INTO server_keys VALUES ('x', 'y', 'z')")
        files = sorted((tmp_path / "data").iterdir())
        names = ["service.db", *(f"service.db-{part}" for part in ("shm", "turn", "wal"))]
        assert [path.name for path in files] == names
        assert [mode(path) for path in files] == [0o600] * 4
    database.dispose()
    assert mode(tmp_path / "data") == 0o700


def test_the_folder_that_the_token_makes(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    assert settings.token
    assert mode(settings.data_dir) == 0o700
    assert mode(settings.token_path) == 0o600


def test_a_database_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    path.touch(mode=0o640)
    make_engine(f"sqlite:///{path}").connect().close()
    assert mode(path) == 0o640
