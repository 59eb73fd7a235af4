"""The one chain of migrations, on both dialects: up, down, and equal to the models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Engine, inspect

from latency_service.db.engine import make_engine
from latency_service.db.migrate import (
    NotMigrated,
    alembic_config,
    check_migrated,
    current_revision,
    downgrade,
    head_revision,
    upgrade,
)
from latency_service.db.tables import Base
from latency_service.settings import Settings

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_engine(empty_database_url: str) -> Iterator[Engine]:
    engine = make_engine(Settings(database_url=empty_database_url).url)
    yield engine
    engine.dispose()


@pytest.fixture(name="alembic_config")
def own_alembic_config() -> Config:
    return alembic_config()


@pytest.fixture
def settings(empty_database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=empty_database_url, data_dir=tmp_path)


def names(engine: Engine) -> dict[str, set[str]]:
    """Constraints and indexes by table, as the database has them."""
    found = inspect(engine)
    return {
        table: {str(entry["name"]) for entry in found.get_indexes(table)}
        | {str(entry["name"]) for entry in found.get_unique_constraints(table)}
        | {str(entry["name"]) for entry in found.get_check_constraints(table)}
        | {str(entry["name"]) for entry in found.get_foreign_keys(table)}
        | {str(found.get_pk_constraint(table)["name"])}
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_every_constraint_of_the_models_is_in_the_database(
    alembic_engine: Engine, settings: Settings
) -> None:
    upgrade(settings)
    migrated = names(alembic_engine)
    downgrade(settings, "base")
    assert names(alembic_engine) == {}
    Base.metadata.create_all(alembic_engine)
    assert migrated == names(alembic_engine)


def test_upgrade_and_downgrade_tell_where_they_end(settings: Settings) -> None:
    assert current_revision(settings) is None
    assert upgrade(settings) == head_revision() == current_revision(settings)
    assert upgrade(settings) == head_revision()
    assert downgrade(settings, "base") == "base"


def test_replicas_may_migrate_at_the_same_time(settings: Settings) -> None:
    # processes, as replicas are: Alembic keeps its context in a module's global
    command = [sys.executable, "-m", "latency_service", "db", "upgrade"]
    environment = os.environ | {"LATENCY_SERVICE_DATABASE_URL": settings.url}
    replicas = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [replica.wait(60) for replica in replicas] == [0, 0, 0]
    assert current_revision(settings) == head_revision()


def test_database_of_a_newer_version_is_told_apart(
    alembic_engine: Engine, settings: Settings
) -> None:
    with pytest.raises(NotMigrated, match="latency-service db upgrade"):
        check_migrated(alembic_engine)
    upgrade(settings)
    check_migrated(alembic_engine)
    with alembic_engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from_the_future'")
    with pytest.raises(NotMigrated, match="newer latency-service"):
        check_migrated(alembic_engine)
