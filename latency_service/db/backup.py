"""Backups: one file holds the whole database, and is checked before anything is restored from it.

A backup is a zip archive with two members: ``manifest.json``, and the database as its own tools
know it (an SQLite file, or an archive of ``pg_dump``). Zip's checksums reveal damage, and without
this program the data is still one ``unzip`` away.
"""

from __future__ import annotations

import errno
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal, cast

from pydantic import BaseModel
from sqlalchemy import Engine, MetaData, select

from latency_service import __version__
from latency_service.core.errors import BadRequest, Conflict
from latency_service.core.terminal.progress import Tell, silent
from latency_service.db import postgres_tools, sqlite_files
from latency_service.db.engine import make_engine
from latency_service.db.migrate import engine_revision, known_revisions
from latency_service.settings import Settings

MANIFEST = "manifest.json"
_MEGABYTE = 1 << 20
_PART_BYTES = 4 * _MEGABYTE
Dialect = Literal["sqlite", "postgresql"]
#: What zipfile and the modules beneath it raise on an archive that is damaged (RuntimeError where
#: the damage looks like encryption), and what its manifest raises.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    KeyError,
    RuntimeError,
    ValueError,
)


class Manifest(BaseModel):
    """What a backup says about itself."""

    format: Literal[1] = 1
    dialect: Dialect
    #: Revision of the schema.
    revision: str
    #: Version of latency-service that made the backup.
    version: str
    created_at: datetime

    @property
    def member(self) -> str:
        """Name of the archive's member that holds the database."""
        return "database.sqlite" if self.dialect == "sqlite" else "database.pgdump"


class BadBackup(BadRequest):
    """The file is no backup of this program, is damaged, or belongs to another kind of database."""

    code = "bad_backup"


def back_up(settings: Settings, path: Path, *, tell: Tell = silent) -> Manifest:
    """Write the database, as it is at one instant, to `path`; the service may go on meanwhile.

    The file is readable by its owner only: it holds delivered models and hashes of tokens. It
    appears whole or not at all.

    Args:
        tell: is told of the megabytes that are packed.

    Raises:
        Conflict: the database has no tables, so there is nothing to back up.
        BadRequest: the database is damaged, or a PostgreSQL tool is missing or fails.
        DatabaseFault: the database's file cannot be opened or read.
        OSError: the file cannot be written.
    """
    engine = make_engine(settings.url, pool_size=1)
    try:
        manifest = _describe(engine)
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".backup-") as name:
            dump = Path(name) / manifest.member
            _dump(engine, dump)
            packed = Path(name) / "packed"
            _pack(packed, manifest, dump, tell)
            os.replace(packed, path)
    finally:
        engine.dispose()
    return manifest


def read_manifest(path: Path) -> Manifest:
    """The manifest of a backup whose every byte has been checked.

    Raises:
        BadBackup: the file is damaged, or is no backup.
    """
    with _opened(path) as archive:
        damaged = archive.testzip()
        manifest = Manifest.model_validate_json(archive.read(MANIFEST))
        complete = manifest.member in archive.namelist()
    if damaged is not None or not complete:
        raise _no_backup(path, damaged or f"it has no {manifest.member}")
    return manifest


def restore(
    settings: Settings, path: Path, *, replace: bool = False, tell: Tell = silent
) -> Manifest:
    """Make the database what it was when the backup was made.

    The content is replaced in one transaction: a restore that fails or is killed changes nothing.

    Args:
        replace: whether a database that holds rows is overwritten.
        tell: is told of the megabytes that are unpacked.

    Raises:
        BadBackup: the file is damaged or no backup; it is of another kind of database; or a newer
            version of latency-service made it.
        Conflict: the database holds rows and `replace` is false (code `not_empty`).
        DatabaseFault: the database cannot be written, for example because its disk is full.
        OSError: the file cannot be read, or there is no room to unpack it.
    """
    manifest = read_manifest(path)
    engine = make_engine(settings.url, pool_size=1)
    try:
        _check_fits(manifest, engine)
        if not replace and not is_empty(engine):
            raise Conflict(
                "The database is not empty; restoring would replace everything in it.",
                "Back it up first, then repeat with --replace. Or name another database with "
                "LATENCY_SERVICE_DATABASE_URL.",
                code="not_empty",
            )
        with _unpacked(path, manifest, tell) as dump:
            _load(engine, dump)
    finally:
        engine.dispose()
    return manifest


def is_empty(engine: Engine) -> bool:
    """Whether no table of the database holds a row; tables without rows count as empty."""
    found = MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        return not any(
            connection.execute(select(1).select_from(table).limit(1)).first()
            for table in found.tables.values()
            if table.name != "alembic_version"
        )


def _describe(engine: Engine) -> Manifest:
    revision = engine_revision(engine)
    if revision is None:
        raise Conflict(
            "The database has no tables, so there is nothing to back up.",
            "See that LATENCY_SERVICE_DATABASE_URL or --data-dir names the right one.",
            code="empty",
        )
    return Manifest(
        dialect=cast(Dialect, engine.dialect.name),
        revision=revision,
        version=__version__,
        created_at=datetime.now(UTC),
    )


def _check_fits(manifest: Manifest, engine: Engine) -> None:
    if manifest.dialect != engine.dialect.name:
        raise BadBackup(
            f"The backup is of a {manifest.dialect} database, this one is {engine.dialect.name}.",
            "Restore it to a database of the same kind. Measurements alone move between kinds: "
            "latency-service export, and import.",
        )
    if manifest.revision not in known_revisions():
        raise BadBackup(
            f"latency-service {manifest.version} made the backup, at revision "
            f"{manifest.revision}, which this version does not know.",
            "Install that version: pip install --upgrade 'latency-service[service]'.",
        )


def _dump(engine: Engine, path: Path) -> None:
    if engine.dialect.name == "sqlite":
        sqlite_files.dump(engine, path)
    else:
        postgres_tools.dump(engine.url, path)


def _load(engine: Engine, path: Path) -> None:
    if engine.dialect.name == "sqlite":
        sqlite_files.load(engine, path)
    else:
        postgres_tools.load(engine.url, path)


def _pack(path: Path, manifest: Manifest, dump: Path, tell: Tell) -> None:
    with path.open("xb") as file:
        path.chmod(0o600)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(MANIFEST, manifest.model_dump_json(indent=2))
            with (
                dump.open("rb") as source,
                archive.open(manifest.member, "w", force_zip64=True) as to,
            ):
                _copy(source, to, dump.stat().st_size, tell)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _unpacked(path: Path, manifest: Manifest, tell: Tell) -> Iterator[Path]:
    """The database's own file, in a private folder."""
    with tempfile.TemporaryDirectory(prefix="latency-restore-") as name:
        target = Path(name) / manifest.member
        with (
            _opened(path) as archive,
            archive.open(manifest.member) as source,
            target.open("xb") as file,
        ):
            _copy(source, file, archive.getinfo(manifest.member).file_size, tell)
        yield target


def _copy(source: IO[bytes], target: IO[bytes], size: int, tell: Tell) -> None:
    done = 0
    while part := source.read(_PART_BYTES):
        target.write(part)
        done += len(part)
        tell(done // _MEGABYTE, size // _MEGABYTE)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever is wrong with its content becomes a `BadBackup`.

    Raises:
        OSError: the file cannot be read, or what the block writes cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        # what unpacks has no error number, and a place before the file's beginning is invalid
        if error.errno in (None, errno.EINVAL):
            raise _no_backup(path, error) from error
        raise
    except _DAMAGE as error:
        raise _no_backup(path, error) from error


def _no_backup(path: Path, why: object) -> BadBackup:
    return BadBackup(
        f"{path} is no backup, or is damaged: {why}.",
        "Give a file that `latency-service backup` wrote, or an older copy of it.",
    )
