"""``latency-service db``: the schema of the database that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from latency_service.cli import common
from latency_service.cli.common import DataDir
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

if TYPE_CHECKING:
    from latency_service.settings import Settings

db = common.group(
    "db",
    "The schema of the database (LATENCY_SERVICE_DATABASE_URL, by default SQLite in --data-dir).",
)


@db.command("upgrade")
@shows
def upgrade(output: Output, data_dir: DataDir = None) -> None:
    """Bring the database to the schema of this version."""
    settings = common.settings(data_dir=data_dir)
    with common.working("upgrading the schema"):
        revision = migrate(settings)
    output.fields({"database": shown(settings), "revision": revision, "head": revision})


@db.command("current")
@shows
def current(output: Output, data_dir: DataDir = None) -> None:
    """Where the database stands. Exits with 3 when that is not the schema of this version."""
    settings = common.settings(data_dir=data_dir)
    migrations = _migrations()
    with answering(settings):
        revision = migrations.current_revision(settings)
    output.fields(
        {"database": shown(settings), "revision": revision, "head": migrations.head_revision()}
    )
    require_migrated(settings)


@db.command("history")
@shows
def history(output: Output) -> None:
    """All revisions, newest first."""
    scripts = common.extra("alembic.script").ScriptDirectory.from_config(
        _migrations().alembic_config()
    )
    rows = [
        {"revision": script.revision, "summary": script.doc.partition(". ")[0]}
        for script in scripts.walk_revisions()
    ]
    columns: list[Column[dict[str, Any]]] = [
        Column("revision", "revision"),
        Column("what", "summary", wraps=20),
    ]
    output.table(rows, columns, "No revision.")


def migrate(settings: Settings) -> str:
    """Bring the database to the schema of this version and return its revision.

    Raises:
        NotMigrated: a newer version made it.
        DatabaseFault: it does not answer.
    """
    unknown: type[Exception] = common.extra("alembic.util").CommandError
    with answering(settings):
        try:
            return str(_migrations().upgrade(settings))
        except unknown:
            require_migrated(settings)
            raise


def require_migrated(settings: Settings) -> None:
    """Return when the database has the schema of this version.

    Raises:
        NotMigrated: it has not; the cure is the command.
        DatabaseFault: it does not answer.
    """
    engine = common.extra("latency_service.db.engine").make_engine(settings.url, pool_size=1)
    try:
        with answering(settings):
            _migrations().check_migrated(engine)
    finally:
        engine.dispose()


@contextmanager
def answering(settings: Settings) -> Iterator[None]:
    """Name what is wrong with a database that does not do what it is asked.

    Raises:
        DatabaseFault: it does not.
    """
    faults = common.extra("latency_service.db.faults")
    failed: type[Exception] = common.extra("sqlalchemy.exc").OperationalError
    try:
        yield
    except failed as error:
        detail = f"{shown(settings)}: {getattr(error, 'orig', error)}"
        raise faults.DatabaseFault(faults.describe_fault(error), detail) from error


def _migrations() -> Any:
    return common.extra("latency_service.db.migrate")


def shown(settings: Settings) -> str:
    """Address of the database without its secrets."""
    url = common.extra("sqlalchemy").make_url(settings.url)
    return str(common.extra("latency_service.db.addresses").split_secrets(url)[0])
