"""``latency-service serve | agent | trainer``: the parts of the service, one process each."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.cli import common
from latency_service.cli.common import DataDir, Server
from latency_service.cli.database import require_migrated
from latency_service.cli.listening import check_binding, listen
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL

if TYPE_CHECKING:
    from latency_service.settings import Settings


Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=0,
        max=65535,
        help="Port to listen on; 0 chooses a free one.",
        show_default="8760",
        rich_help_panel="Listening",
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="Address to listen on.",
        show_default="127.0.0.1",
        rich_help_panel="Listening",
    ),
]
InsecureBind = Annotated[
    bool,
    typer.Option(
        "--insecure-bind",
        help="Listen beyond this machine without TLS or a trusted proxy.",
        rich_help_panel="Listening",
    ),
]
EnrolmentToken = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="LATENCY_SERVICE_ENROLMENT",
        help="Enrolment token, from `latency-service enrolments create`; needed the first time "
        "only.",
        show_default=False,
        rich_help_panel="Enrolment",
    ),
]
EnrolmentFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File that holds the enrolment token.",
        show_default=False,
        rich_help_panel="Enrolment",
    ),
]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="Name of this device.",
        show_default="the host's name",
        rich_help_panel="Enrolment",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="LATENCY_SERVICE_STATE_DIR",
        help="Folder of the agent's own token and cache.",
        show_default="agent in the data directory",
        rich_help_panel=common.STORAGE,
    ),
]


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    insecure_bind: InsecureBind = False,
    descriptor: Annotated[int | None, typer.Option("--fd", hidden=True)] = None,
    gate: Annotated[int | None, typer.Option("--after-fd", hidden=True)] = None,
) -> None:
    """Run the HTTP service. Needs a migrated database: see `latency-service db upgrade`."""
    settings = common.settings(
        host=host, port=port, data_dir=data_dir, allow_plaintext=insecure_bind or None
    )
    check_binding(settings)
    make_server = common.extra("latency_service.web.server").make_server
    create_app = common.extra("latency_service.app").create_app
    if gate is None:
        require_migrated(settings)
    else:
        os.read(gate, 1)  # until whoever migrates the database closes the other end
    listener = _listener(settings, descriptor)
    token_place = "as set" if settings.api_token else settings.token_path
    print(f"API token: {token_place}", file=sys.stderr, flush=True)
    with listener:
        application = create_app(settings)
        server = make_server(application, settings)
        _send_long_polls_home(server, application.state.stopping)
        application.state.inspector.start()
        server.run(sockets=[listener])
    if not server.started:
        raise typer.Exit(exit_codes.FAILED)


def _listener(settings: Settings, descriptor: int | None) -> socket.socket:
    if descriptor is None:
        return listen(settings.host, settings.port)
    return socket.socket(fileno=descriptor)


def _send_long_polls_home(server: Any, stopping: threading.Event) -> None:
    """Tell waiting requests of the signal that stops the server, and end normally when it has shut
    down.

    uvicorn raises that signal once more at its end, for whoever handled it before: without a
    handler of ours that would kill the process.
    """
    leave = server.handle_exit

    def handle(number: int, frame: Any) -> None:
        stopping.set()
        leave(number, frame)

    server.handle_exit = handle
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def agent(
    server: Server = DEFAULT_URL,
    token: EnrolmentToken = None,
    token_file: EnrolmentFile = None,
    name: DeviceName = None,
    state_dir: StateDir = None,
) -> None:
    """Make this machine a device: measure what the service asks for. Needs the base install
    only.
    """
    from latency_service.agent.main import run_agent

    if token is None and token_file is not None:
        token = common.read_input(token_file).decode(errors="replace").strip()
    state = state_folder(state_dir)
    with held(state, "An agent", "another --state-dir"):
        raise typer.Exit(
            run_agent(server, token, name=name, state_dir=state, stop=stop_on_signals())
        )


def state_folder(given: Path | None) -> Path:
    """The agent's folder: as given, or in the data directory."""
    return given or common.settings().data_dir / "agent"


def trainer(data_dir: DataDir = None) -> None:
    """Train predictors: take training jobs from the database's queue."""
    settings = common.settings(data_dir=data_dir)
    require_migrated(settings)
    run_trainer = common.extra("latency_service.training.worker").run_trainer
    raise typer.Exit(run_trainer(settings, stop_on_signals()))


@contextmanager
def held(folder: Path, who: str, cure: str) -> Iterator[None]:
    """Hold `folder` for this process while the block runs.

    Raises:
        CommandError: another process holds it, or it cannot be written.
    """
    from latency_service.core.locks import AlreadyRunning, lock_folder

    with ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(folder))
        except AlreadyRunning as error:
            raise common.CommandError(
                f"{who} runs on {folder} already (process {error}).",
                f"Use that one, stop it, or give {cure}.",
                code="already_running",
            ) from error
        except OSError as error:
            raise common.CommandError(
                f"{folder} cannot be used: {error}.", f"Give {cure}."
            ) from error
        yield


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()

    def handle(*_: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def stop_at_end_of(descriptor: int, stop: threading.Event) -> None:
    """Set `stop` at the end of the input that `descriptor` reads, for example when the program at
    the other end of a pipe dies.
    """

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass
        stop.set()

    threading.Thread(target=wait, name="end of input", daemon=True).start()
