"""``latency-service backup | restore``: the whole database as one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import DataDir
from latency_service.cli.database import answering, shown
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

_File = Annotated[Path, typer.Argument(help="The backup.", show_default=False)]


@shows
def backup(file: _File, output: Output, data_dir: DataDir = None) -> None:
    """Write the whole database to one file, while the service goes on.

    SQLite is copied by its online backup; PostgreSQL needs pg_dump on the PATH. The file holds
    delivered models and hashes of tokens: keep it as safe as the database.
    """
    settings = common.settings(data_dir=data_dir)
    backups = common.extra("latency_service.db.backup")
    with (
        answering(settings),
        _writing(str(file), "Give another path."),
        common.working("backing up", "MB") as tell,
    ):
        manifest = backups.back_up(settings, file, tell=tell)
    fields = {"backup": str(file), "bytes": file.stat().st_size, "database": shown(settings)}
    output.fields({**fields, "revision": manifest.revision})


@shows
def restore(
    file: _File,
    output: Output,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite a database that is not empty.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make the database what it was when a backup was made. Stop the service before.

    Every byte of the file is checked first. A backup of an earlier version is restored as it is;
    `latency-service db upgrade` then brings it to this version.
    """
    settings = common.settings(data_dir=data_dir)
    common.check_input(file)
    backups = common.extra("latency_service.db.backup")
    cure = "Free disk space, or give a folder with more of it: TMPDIR."
    with (
        answering(settings),
        _writing("The unpacked backup", cure),
        common.working("restoring", "MB") as tell,
    ):
        manifest = backups.restore(settings, file, replace=replace, tell=tell)
    fields = {"database": shown(settings), "revision": manifest.revision}
    output.fields({**fields, "backup of": manifest.created_at.isoformat(timespec="seconds")})


@contextmanager
def _writing(what: str, cure: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise common.CommandError(
            f"{what} cannot be written: {error.strerror or error}.", cure
        ) from error
