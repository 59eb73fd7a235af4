"""``latency-service up``: the service, one local agent and one trainer on this machine."""

from __future__ import annotations

import socket
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from latency_service.cli import common
from latency_service.cli.common import CommandError, DataDir
from latency_service.cli.dashboard import Open
from latency_service.cli.database import migrate, shown
from latency_service.cli.listening import check_binding, listen
from latency_service.cli.running import Port, held, stop_at_end_of, stop_on_signals
from latency_service.core.terminal.options import Json
from latency_service.core.terminal.output import print_line, say
from latency_service.embedded.supervisor import GaveUp, Supervisor
from latency_service.embedded.up import READY_SECONDS, EmbeddedService, PartNotReady

if TYPE_CHECKING:
    from latency_service.settings import Settings

_LIFE = "This machine"


def up(
    data_dir: DataDir = None,
    port: Port = None,
    device: Annotated[
        str, typer.Option(help="Name of this machine as a device.", rich_help_panel=_LIFE)
    ] = "local",
    until_input_ends: Annotated[
        bool,
        typer.Option(
            "--until-input-ends",
            help="Stop when standard input is closed, for example because its owner died.",
            rich_help_panel=_LIFE,
        ),
    ] = False,
    open_browser: Open = False,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            help="Fill an empty database by measuring this machine for some minutes; needs "
            "latency-service\\[all].",
            rich_help_panel=_LIFE,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Start everything on this machine: database, service, agent and trainer. Ctrl-C stops all of
    it.
    """
    settings = common.settings(data_dir=data_dir, port=port)
    check_binding(settings, speaks_tls=False)
    common.check_extra()
    if demo:
        _check_demo_packages()
    lock = held(settings.data_dir, "`latency-service up`", "another --data-dir")
    with lock, listen(settings.host, settings.port) as listener:
        stop = _stop_event(until_input_ends)

        if demo:
            migrate(settings)
            _check_room(settings)
        _run(settings, listener, device, stop, _Announcement(as_json, open_browser, demo))


def _check_demo_packages() -> None:
    missing = common.extra("latency_service.embedded.demo").missing_package()
    if missing:
        raise CommandError(
            f"The demo prunes a network and needs the package {missing!r} for that.",
            "Install it with: pip install 'latency-service[all]'",
            code="missing_extra",
        )


def _check_room(settings: Settings) -> None:
    """Refuse a database that holds anything else than demo data."""
    from latency_service.db.engine import Database
    from latency_service.embedded import demo

    database = Database(settings.url)
    try:
        with database.read() as session:
            found = demo.what_is_there(session)
    finally:
        database.dispose()
    if found:
        raise CommandError(
            f"The database {shown(settings)} is not empty: it holds {found}. Nothing was changed.",
            "Give the demo another folder: latency-service up --demo --data-dir FOLDER",
            code="not_empty",
        )


def _stop_event(until_input_ends: bool) -> threading.Event:
    stop = stop_on_signals()
    if until_input_ends:
        stop_at_end_of(sys.stdin.fileno(), stop)
    return stop


class _Announcement(NamedTuple):
    """How the command tells that everything is ready."""

    as_json: bool
    open_browser: bool
    demo: bool

    def make(self, service: EmbeddedService) -> None:
        link = service.sign_in_link()
        announce = _announce_json if self.as_json else _announce
        announce(service, link)
        if self.open_browser and not webbrowser.open(link):
            say("No web browser can be opened on this machine.")
        if self.demo:
            say("The demo measures this machine for some minutes; every page fills meanwhile.")
            service.start_demo()


def _run(
    settings: Settings,
    listener: socket.socket,
    device: str,
    stop: threading.Event,
    announcement: _Announcement,
) -> None:
    service = EmbeddedService(
        settings=settings, listener=listener, device=device, stop=stop, supervisor=Supervisor(say)
    )
    try:
        service.run(lambda: migrate(settings), lambda: announcement.make(service))
    except GaveUp as error:
        raise _child_died(error) from error
    except PartNotReady as error:
        raise CommandError(
            f"The {error.part} was not ready after {READY_SECONDS:.0f} s.",
            "The logs in the data directory say why.",
        ) from error


def _child_died(error: GaveUp) -> CommandError:
    return CommandError(
        f"The {error.name} keeps dying; its last lines:\n{error.log_tail}\n",
        f"The whole log is {error.log}.",
        code="child_died",
    )


def _announce_json(service: EmbeddedService, link: str) -> None:
    ready: dict[str, Any] = {
        "url": service.url,
        "dashboard": link,
        "token_file": str(service.token_file) if service.token_file else None,
        "data_dir": str(service.settings.data_dir),
        "device": service.device,
    }
    print_line(ready)


def _announce(service: EmbeddedService, link: str) -> None:
    url = service.url
    path = service.token_file
    token = f"$(cat {path})" if path else "$LATENCY_SERVICE_API_TOKEN"
    print(
        f"Ready: {url} (API documentation: {url}/docs)\n"
        f"  open    {link}\n"
        f"          (signs a browser in once; another link: latency-service dashboard)\n"
        f"  device  {service.device}\n"
        f"  data    {service.settings.data_dir}\n"
        f"  token   {path or 'as set in LATENCY_SERVICE_API_TOKEN'}\n"
        f'  try     curl -H "Authorization: Bearer {token}" {url}/v1/devices\n'
        "Ctrl-C stops all of it.",
        flush=True,
    )
