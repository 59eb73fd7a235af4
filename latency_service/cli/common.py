"""What every command shares: options, the connection, exit codes, and the two ways of printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from latency_service.core import exit_codes
from latency_service.core.credentials import resolve
from latency_service.core.errors import ServiceError
from latency_service.core.files import write_whole
from latency_service.core.transport import ApiError, Transport

if TYPE_CHECKING:
    from latency_service.settings import Settings


Server = Annotated[
    str,
    typer.Option(
        "--server", envvar="LATENCY_SERVICE_URL", help="Address of the service.", show_default=True
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="LATENCY_SERVICE_TOKEN",
        help="API token; by default, on this machine, the one that `latency-service up` keeps.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder of the database, the token and the logs.",
        show_default="LATENCY_SERVICE_DATA_DIR",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

Row = Mapping[str, Any]
Column = tuple[str, str | Callable[[Row], Any]]


class CommandError(Exception):
    """A command cannot go on: `message` is the cause, `cure` what to do, `exit_code` as documented
    in --help.
    """

    def __init__(
        self, message: str, cure: str, *, exit_code: int = exit_codes.FAILED, code: str = "failed"
    ) -> None:
        super().__init__(f"{message} {cure}")
        self.message = message
        self.cure = cure
        self.exit_code = exit_code
        self.code = code


def exit_code_of(error: CommandError | ApiError | ServiceError) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, CommandError):
        return error.exit_code
    return exit_codes.of_error(error)


def group(name: str, summary: str) -> typer.Typer:
    """An empty command group whose help names the exit codes."""
    return typer.Typer(name=name, help=summary, epilog=exit_codes.epilog(), no_args_is_help=True)


def settings(**overrides: Any) -> Settings:
    """The settings from the environment, but for those overrides that are not None.

    Raises:
        CommandError: one of them is not valid.
    """
    from pydantic import ValidationError

    from latency_service.settings import Settings

    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        causes = "; ".join(
            f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()
        )
        raise CommandError(
            f"The settings are not valid: {causes}.",
            "Correct the LATENCY_SERVICE_ variables.",
            exit_code=exit_codes.INVALID,
        ) from error


def extra(module: str) -> ModuleType:
    """Import a module that only the `service` extra brings.

    Raises:
        CommandError: the extra is not installed; the cure is the pip command.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "latency_service":
            raise
        raise CommandError(
            f"This command needs the package {error.name!r}, which the base install leaves out.",
            "Install it with: pip install 'latency-service[service]'",
            code="missing_extra",
        ) from error


def connect(server: str, token: str | None) -> Transport:
    """A connection to the service, as `credentials.resolve` finds address and token."""
    credentials = resolve(server, token or None)
    return Transport(credentials.url, credentials.token)


def fetch(server: str, token: str | None, path: str, **params: Any) -> Any:
    """The decoded answer to one GET; parameters that are None are left out."""
    with connect(server, token) as service:
        return service.request(
            "GET", path, params={k: v for k, v in params.items() if v is not None}
        ).json()


def send(server: str, token: str | None, path: str, body: Any = None) -> Any:
    """The decoded answer to one POST of JSON."""
    with connect(server, token) as service:
        return service.request("POST", path, json=body).json()


def segment(value: str) -> str:
    """A name or an id as one segment of a path.

    Raises:
        CommandError: it is empty or would be another path.
    """
    if value.strip() in ("", ".", ".."):
        raise CommandError(
            f"{value!r} is not a valid name or id.",
            "The `list` command shows those there are.",
            exit_code=exit_codes.USAGE,
        )
    return quote(value, safe="")


def read_input(path: Path) -> bytes:
    """The bytes of a file named on the command line.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read: {error.strerror}.",
            "Give the path of a readable file.",
            exit_code=exit_codes.INVALID,
        ) from error


def read_json(path: Path) -> Any:
    """The decoded JSON of a file named on the command line.

    Raises:
        CommandError: it cannot be read or is not valid JSON.
    """
    try:
        return json.loads(read_input(path))
    except ValueError as error:
        raise CommandError(
            f"{path} is not valid JSON: {error}.", "Give a JSON file.", exit_code=exit_codes.INVALID
        ) from error


def write_output(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file named on the command line, complete or not at all.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        write_whole(path, data, mode=mode)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror}.", "Give another path."
        ) from error


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2))


def print_line(value: Any) -> None:
    """One JSON document on one line, flushed: for programs that follow along."""
    print(json.dumps(value, separators=(",", ":")), flush=True)


def print_table(rows: Sequence[Row], columns: Sequence[Column], empty: str) -> None:
    """One row for each item; `empty` is said instead when there is none."""
    if not rows:
        Console(stderr=True).print(empty, markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, _ in columns:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            *(text(cell(row) if callable(cell) else row.get(cell)) for _, cell in columns)
        )
    wide_console().print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, text(value))
    wide_console().print(table)


def wide_console() -> Console:
    """Standard output; not folded to 80 columns when it is a pipe, so that scripts can read it."""
    console = Console(markup=False, highlight=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, width=240)


def text(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    return str(value)


def moment(name: str) -> Callable[[Row], str]:
    """A column cell: the time in field `name`, to the second."""

    def cell(row: Row) -> str:
        return str(row.get(name) or "-")[:19].replace("T", " ")

    return cell


def runtime_key(row: Row) -> str:
    """A runtime configuration in its canonical form, for example
    ``CPUExecutionProvider/t1/b1/fp32``.
    """
    runtime = row["runtime"]
    threads, batch = runtime["intra_threads"], runtime["batch"]
    return f"{runtime['provider']}/t{threads}/b{batch}/{runtime['precision']}"


def report_error(message: str, cure: str, code: str, as_json: bool) -> None:
    """The cause and the cure on standard error."""
    if as_json:
        print(
            json.dumps({"error": {"code": code, "message": message, "cure": cure}}), file=sys.stderr
        )
        return
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    console.print(message, style="red")
    if cure:
        console.print(cure)
