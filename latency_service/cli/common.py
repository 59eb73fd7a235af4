"""What every command shares: options, the connection, settings and files."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from latency_service.core import exit_codes
from latency_service.core.errors import ServiceError
from latency_service.core.files import write_whole
from latency_service.core.terminal import completion
from latency_service.core.terminal.options import OUTPUT
from latency_service.core.terminal.output import Output
from latency_service.core.terminal.progress import ProgressDisplay, Step, Tell
from latency_service.core.transport import ApiError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from latency_service.core.client import Client
    from latency_service.settings import Settings

    Request = TypeVar("Request", bound=BaseModel)


#: Seconds of work about which nothing is said.
PATIENCE_SECONDS = 2.0
#: Packages that only the `service` extra installs, and that its processes need.
_SERVICE_PACKAGES = ("alembic", "fastapi", "sqlalchemy", "torch", "uvicorn")
#: Panels of the help that several commands share.
CONNECTION = "Connection"
FILTER = "Filter"
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
SpaceFilter = Annotated[
    str | None,
    typer.Option(
        "--space",
        help="Show only those of this search space.",
        autocompletion=completion.spaces,
        rich_help_panel=FILTER,
    ),
]
DeviceFilter = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Show only those of this device.",
        autocompletion=completion.devices,
        rich_help_panel=FILTER,
    ),
]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="Write the secret to this file, readable by its owner only.",
        rich_help_panel=OUTPUT,
    ),
]
DeviceName = Annotated[
    str,
    typer.Argument(metavar="DEVICE", help="Name of the device.", autocompletion=completion.devices),
]


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


def interrupted(what: str, resume: str) -> CommandError:
    """What Ctrl-C ends with while the service goes on.

    Args:
        what: the work in the service that goes on.
        resume: command that follows it again.
    """
    return CommandError(
        f"\nStopped following: {what} goes on in the service.",
        f"Follow it again: {resume}",
        exit_code=exit_codes.INTERRUPTED,
        code="interrupted",
    )


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
    from pydantic import ValidationError

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
    # a quarter of the import's time would go into looking for garbage among what stays
    gc.disable()
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "latency_service":
            raise
        raise _missing_extra(error.name) from error
    finally:
        gc.freeze()
        gc.enable()


def check_extra() -> None:
    """Check that the `service` extra is installed, without importing it, which takes a second.

    Raises:
        CommandError: it is not.
    """
    for name in _SERVICE_PACKAGES:
        if find_spec(name) is None:
            raise _missing_extra(name)


def _missing_extra(name: str | None) -> CommandError:
    return CommandError(
        f"This command needs the package {name!r}, which the base install leaves out.",
        "Install it with: pip install 'latency-service[service]'",
        code="missing_extra",
    )


@contextmanager
def working(phase: str, unit: str = "") -> Iterator[Tell]:
    """Show how long the block runs, once that is longer than people like to wait without a
    word, and how far it is where it tells that.
    """
    with ProgressDisplay(patience_seconds=PATIENCE_SECONDS) as display:

        def tell(done: int, total: int) -> None:
            display(Step(phase=phase, done=done, total=total, unit=unit))

        tell(0, 0)
        yield tell


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


def write_secret(path: Path | None, secret: str) -> None:
    """Write a secret to the file that its owner names, if any.

    Raises:
        CommandError: it cannot be written.
    """
    if path is not None:
        write_output(path, (secret + "\n").encode(), mode=0o600)


def tell_of_more(output: Output, shown: int, limit: int, offset: int) -> None:
    """Say that a list may go on where a full page of it was shown."""
    if shown == limit:
        output.remark(f"The list may go on; the next rows: --offset {offset + limit}.")


def fields_of(view: BaseModel, *names: str) -> dict[str, Any]:
    """Some fields of a view, by name."""
    return {name: getattr(view, name) for name in names}
