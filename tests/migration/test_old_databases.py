"""Databases of every earlier revision, with rows in them: up, down and up again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from starlette.testclient import TestClient

from latency_service.agent.testing import bearer
from latency_service.app import create_app
from latency_service.db.engine import make_engine
from latency_service.db.migrate import (
    alembic_config,
    check_migrated,
    downgrade,
    head_revision,
    upgrade,
)
from latency_service.db.tables import Base
from latency_service.settings import Settings
from tests.support.invented_rows import invent
from tests.support.old_database import FIRST, content, make_old, old_rows
from tests.support.processes import clean_environment
from tests.support.settings import API_TOKEN, SQLITE_ONLY

ROOT = Path(__file__).parents[2]
SCRIPTS = ScriptDirectory.from_config(alembic_config())
#: Oldest first.
CHAIN = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]
#: What a migration deletes on purpose: the first revision's tokens, which have no keyed hash.
DELETED = {"tokens"}
Content = dict[str, list[dict[str, Any]]]


@pytest.fixture
def settings(empty_database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=empty_database_url, data_dir=tmp_path, api_token=API_TOKEN)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    opened = make_engine(settings.url)
    yield opened
    opened.dispose()


def common(before: Content, after: Content) -> tuple[Content, Content]:
    """Both, cut to the tables and columns that both have."""

    def cut(content: Content, other: Content) -> Content:
        return {
            table: [
                {name: row[name] for name in row if name in _columns(other, table)} for row in rows
            ]
            for table, rows in content.items()
            if table not in DELETED and other.get(table)
        }

    return cut(before, after), cut(after, before)


def _columns(content: Content, table: str) -> set[str]:
    return set(content[table][0])


def test_the_chain_is_one_line_of_several_revisions() -> None:
    assert CHAIN[0] == FIRST
    assert len(CHAIN) >= 2
    assert CHAIN[-1] == head_revision()


@pytest.mark.parametrize("revision", CHAIN)
def test_rows_survive_the_way_up_down_and_up_again(
    revision: str, settings: Settings, engine: Engine
) -> None:
    make_old(settings, revision)
    invent(engine)
    before = content(engine)
    assert all(before.values()), "every table of the revision has a row"

    upgrade(settings)
    check_migrated(engine)
    above = content(engine)
    downgrade(settings, revision)
    below = content(engine)
    upgrade(settings)
    again = content(engine)

    for after in (above, below, again):
        assert before.keys() - DELETED <= {table for table, rows in after.items() if rows}
        mine, theirs = common(before, after)
        assert mine == theirs
    for table in before.keys() - DELETED:
        assert set(below[table][0]) == set(before[table][0])
    assert again.keys() == above.keys() == Base.metadata.tables.keys()


@SQLITE_ONLY
def test_the_rows_of_the_first_revision_fill_its_tables(settings: Settings, engine: Engine) -> None:
    make_old(settings, FIRST)
    assert content(engine).keys() == old_rows().keys()


def test_the_service_serves_what_an_old_database_holds(settings: Settings) -> None:
    make_old(settings)
    with TestClient(create_app(settings), headers=bearer(API_TOKEN)) as api:
        assert api.get("/readyz").status_code == 200
        [device] = api.get("/v1/devices").json()
        assert (device["name"], len(device["targets"]), device["quarantine"]) == ("board", 2, None)
        measured = api.get("/v1/measurements/m0").json()
        assert (measured["widths"], len(measured["rounds"])) == ([8, 8], 2)
        [predictor] = api.get("/v1/predictors").json()
        answer = api.post(f"/v1/predictors/{predictor['id']}/predict", json={"widths": [8, 8]})
        assert answer.json()["latency_ms"] == [0.5]
        assert api.get("/v1/campaigns/c1").json()["state"] == "done"
        assert api.get("/v1/jobs/j4").json()["failure"]["kind"] == "agent_lost"


@SQLITE_ONLY
def test_the_wheel_alone_migrates_an_old_database_file(settings: Settings, tmp_path: Path) -> None:
    """As after `pip install --upgrade`: no checkout, only what the wheel brings."""
    make_old(settings, FIRST)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = ["wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run([*pip, *wheel], check=True, timeout=120)
    [built] = tmp_path.glob("*.whl")
    install = ["install", "--no-deps", "--target", str(tmp_path / "site"), str(built)]
    subprocess.run([*pip, *install], check=True, timeout=120)
    environment = clean_environment(
        PYTHONPATH=str(tmp_path / "site"), LATENCY_SERVICE_DATABASE_URL=settings.database_url
    )

    def run(*words: str) -> str:
        command = [sys.executable, *words]
        return subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)

    folder = run("-c", "from latency_service.db import migrate; print(migrate.migrations_folder())")
    assert Path(folder.strip()) == tmp_path / "site" / "latency_service" / "db" / "migrations"
    printed = json.loads(run("-m", "latency_service", "db", "upgrade", "--json"))
    assert printed["revision"] == head_revision()
    engine = make_engine(settings.url)
    mine, theirs = common(old_rows(), content(engine))
    engine.dispose()
    assert {table: len(rows) for table, rows in mine.items()} == {
        table: len(rows) for table, rows in theirs.items()
    }
