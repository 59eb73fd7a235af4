"""What every command shares: options, the connection, exit codes, and the two ways of printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from latency_service.core import exit_codes
from latency_service.core.errors import ServiceError
from latency_service.core.files import write_whole
from latency_service.core.transport import ApiError

if TYPE_CHECKING:
    from latency_service.core.client import Client
    from latency_service.settings import Settings


#: Panels of the help that several commands share.
CONNECTION = "Connection"
FILTER = "Filter"
OUTPUT = "Output"
STORAGE = "Storage"

Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="LATENCY_SERVICE_URL",
        help="Address of the service.",
        show_default=True,
        rich_help_panel=CONNECTION,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="LATENCY_SERVICE_TOKEN",
        help="API token. Default: on this machine, the token that `latency-service up` keeps.",
        show_default=False,
        rich_help_panel=CONNECTION,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder of the database, the token and the logs.",
        show_default="LATENCY_SERVICE_DATA_DIR",
        rich_help_panel=STORAGE,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of tables.", rich_help_panel=OUTPUT),
]
SpaceFilter = Annotated[
    str | None,
    typer.Option("--space", help="Show only those of this search space.", rich_help_panel=FILTER),
]
DeviceFilter = Annotated[
    str | None,
    typer.Option("--device", help="Show only those of this device.", rich_help_panel=FILTER),
]

Row = TypeVar("Row")
Request = TypeVar("Request", bound=BaseModel)
#: Heading of a column, and the attribute or the function that gives its cells.
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
    """The exit code of an error."""
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
    from latency_service.settings import Settings

    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise CommandError(
            f"The settings are not valid: {causes(error)}.",
            "Correct the LATENCY_SERVICE_ variables.",
            exit_code=exit_codes.INVALID,
        ) from error


def causes(error: ValidationError) -> str:
    """What is wrong with which field."""
    return "; ".join(
        f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors()
    )


def request_of(kind: type[Request], body: Mapping[str, Any]) -> Request:
    """A request, checked here as the service checks it.

    Raises:
        CommandError: the service would not take it.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise CommandError(
            f"The request is not valid: {causes(error)}.",
            "See --help for what the options take.",
            exit_code=exit_codes.INVALID,
            code="invalid_request",
        ) from error


def extra(module: str) -> ModuleType:
    """Import a module that only the `service` extra installs.

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


def connect(server: str, token: str | None) -> Client:
    """A connection to the service; a command tries once."""
    from latency_service.core.client import Client

    return Client(server, token or None, tries=1)


def read_input(path: Path) -> bytes:
    """The bytes of a file named on the command line.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def check_input(path: Path) -> None:
    """Check that a file named on the command line can be read, without reading it.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CommandError:
    return CommandError(
        f"{path} cannot be read: {error.strerror}.",
        "Give the path of a readable file.",
        exit_code=exit_codes.INVALID,
    )


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
    """One JSON document on standard output: a view, a list of views, or plain values."""
    print(json.dumps(plain(value), indent=2))


def print_line(value: Any) -> None:
    """One JSON document on one line, flushed: for programs that follow along."""
    print(json.dumps(plain(value), separators=(",", ":")), flush=True)


def plain(value: Any) -> Any:
    """Views as the service itself sends them."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def fields_of(view: BaseModel, *names: str) -> dict[str, Any]:
    """Some fields of a view, by name."""
    return {name: getattr(view, name) for name in names}


def print_table(rows: Sequence[Row], columns: Sequence[Column[Row]], empty: str) -> None:
    """One row for each item; `empty` is printed instead when there is none."""
    if not rows:
        Console(stderr=True).print(empty, markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, _ in columns:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            *(text(cell(row) if callable(cell) else getattr(row, cell)) for _, cell in columns)
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


def print_result(fields: Mapping[str, Any], as_json: bool) -> None:
    """What a command has done: names and values, as JSON where that was asked for."""
    if as_json:
        return print_json(dict(fields))
    return print_fields(fields)


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
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    return str(value)


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
