"""Whole PostgreSQL databases as files, by PostgreSQL's own client."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import URL

from latency_service.core.errors import BadRequest
from latency_service.core.files import write_whole
from latency_service.db.addresses import split_secrets

#: Schema of all tables.
SCHEMA = "public"
#: Section of the file that holds a connection's secrets.
_SERVICE = "latency-service"


def dump(url: URL, path: Path) -> None:
    """Write the database, as it is at one instant, to `path`.

    Raises:
        BadRequest: pg_dump is missing (code `missing_tool`) or fails (`tool_failed`).
    """
    options = ("--no-owner", "--no-privileges", "--no-password", f"--schema={SCHEMA}")
    _ask(url, "pg_dump", *options, "--format=custom", f"--file={path}")


def load(url: URL, path: Path) -> None:
    """Replace the database's tables by those of the file `path`, in one transaction.

    Raises:
        BadRequest: a tool is missing (code `missing_tool`) or fails (`tool_failed`); nothing is
            changed.
    """
    script = path.with_suffix(".sql")
    # what is in the schema, without the schema itself
    chosen = ("--no-owner", "--no-privileges", f"--schema={SCHEMA}")
    _call("pg_restore", *chosen, f"--file={script}", str(path))
    # one transaction over all of them
    anew = ("-c", f"DROP SCHEMA {SCHEMA} CASCADE", "-c", f"CREATE SCHEMA {SCHEMA}")
    options = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
    _ask(url, "psql", *options, "--no-password", *anew, f"--file={script}")


def _ask(url: URL, name: str, *options: str) -> None:
    """Run a tool that connects to the database.

    Arguments are seen by every user of the machine, so the secrets of the address go by the
    environment and, those for which libpq knows no variable, by a file.
    """
    address, secrets = split_secrets(url.set(drivername="postgresql"))
    environment = {"PGPASSWORD": secrets.pop("password")} if "password" in secrets else {}
    with tempfile.TemporaryDirectory(prefix="latency-postgresql-") as folder:
        if secrets:
            file = Path(folder) / "service"
            lines = [f"{option}={value}" for option, value in secrets.items()]
            write_whole(file, "\n".join([f"[{_SERVICE}]", *lines, ""]).encode())
            environment |= {"PGSERVICEFILE": str(file), "PGSERVICE": _SERVICE}
        shown = f"--dbname={address.render_as_string(hide_password=False)}"
        _call(name, *options, shown, environment=environment)


def _call(name: str, *options: str, environment: Mapping[str, str] | None = None) -> None:
    ended = subprocess.run(
        [_tool(name), *options],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise BadRequest(
            f"{name} failed: {ended.stderr.strip()[-1000:]}.",
            "Its version has to be the server's or newer: install PostgreSQL's client of the "
            "server's version.",
            code="tool_failed",
        )


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BadRequest(
            f"{name} is not on the PATH; it belongs to PostgreSQL's client.",
            "Install the client of the server's version (Debian: apt install postgresql-client), "
            "or run this command on the database's machine.",
            code="missing_tool",
        )
    return found
