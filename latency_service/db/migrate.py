"""Bringing a database to the schema of this version, and telling whether it is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from latency_service.core.errors import ServiceError
from latency_service.db.engine import make_engine
from latency_service.settings import Settings


class NotMigrated(ServiceError):
    """The database has not the schema of this version."""

    status = 503
    code = "not_migrated"
    retry_after_seconds = 5


def migrations_folder() -> Path:
    """The chain of revisions: inside the package where a wheel is installed, else at the top of the
    repository.
    """
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "migrations"


def alembic_config() -> Config:
    """Alembic's configuration; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.set_main_option("path_separator", "os")
    return config


@cache
def head_revision() -> str:
    """The revision that this version of the service works with."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise RuntimeError("the installation holds no migrations: install latency-service again")
    return head


def known_revisions() -> set[str]:
    """All revisions of the chain."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return {script.revision for script in scripts.walk_revisions()}


def engine_revision(engine: Engine) -> str | None:
    """The revision of the database, None when it is empty."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def current_revision(settings: Settings) -> str | None:
    """The revision of the database that the settings name, None when it is empty."""
    engine = make_engine(settings.url, pool_size=1)
    try:
        return engine_revision(engine)
    finally:
        engine.dispose()


def check_migrated(engine: Engine) -> None:
    """Return when the database is ready for this version.

    Raises:
        NotMigrated: it is empty, older or newer.
    """
    current = engine_revision(engine)
    head = head_revision()
    if current == head:
        return
    if current is not None and current not in known_revisions():
        raise NotMigrated(
            f"The database is at revision {current}, which a newer latency-service made.",
            "Install that version: pip install --upgrade 'latency-service[service]'.",
        )
    state = "has no tables yet" if current is None else f"is at revision {current}"
    raise NotMigrated(
        f"The database {state}; this version needs {head}.", "Run: latency-service db upgrade"
    )


def upgrade(settings: Settings, revision: str = "head") -> str:
    """Migrate the database up to `revision` and return where it stands. Safe to run from several
    processes at once.
    """
    return _migrate(settings, revision, command.upgrade)


def downgrade(settings: Settings, revision: str) -> str:
    """Migrate the database down to `revision` (``base`` empties it) and return where it stands."""
    return _migrate(settings, revision, command.downgrade)


def _migrate(settings: Settings, revision: str, action: object) -> str:
    engine = make_engine(settings.url, pool_size=1)
    config = alembic_config()
    try:
        with engine.execution_options(sqlite_begin="BEGIN IMMEDIATE").connect() as connection:
            config.attributes["connection"] = connection
            assert callable(action)
            action(config, revision)
        return engine_revision(engine) or "base"
    finally:
        engine.dispose()
