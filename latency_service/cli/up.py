"""``latency-service up``: the embedded whole, that is the service, one local agent and one
trainer.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.cli import common
from latency_service.cli.common import CommandError, DataDir, Json
from latency_service.cli.database import migrate
from latency_service.cli.running import held, listen, stop_at_end_of, stop_on_signals
from latency_service.core.transport import ApiError
from latency_service.core.waiting import polled
from latency_service.embedded.supervisor import ChildSpec, GaveUp, Supervisor

if TYPE_CHECKING:
    from latency_service.settings import Settings

READY_SECONDS = 60.0
#: What the agent has no business to know.
SECRETS = ("LATENCY_SERVICE_API_TOKEN", "LATENCY_SERVICE_TOKEN", "LATENCY_SERVICE_DATABASE_URL")


class Stopped(Exception):
    """Ctrl-C or SIGTERM before all was ready."""


def up(
    data_dir: DataDir = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port to listen on; 0 chooses a free one.", show_default="8760"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Name of this machine as a device.")] = "local",
    until_input_ends: Annotated[
        bool,
        typer.Option(
            "--until-input-ends",
            help="Stop when standard input is closed, for example because its owner died.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Start everything on this machine: database, service, agent and trainer. Ctrl-C stops all of
    it.
    """
    settings = common.settings(data_dir=data_dir, port=port)
    common.extra("latency_service.app")
    lock = held(settings.data_dir, "`latency-service up`", "another --data-dir")
    with lock, listen(settings.host, settings.port) as listener:
        stop = stop_on_signals()
        if until_input_ends:
            stop_at_end_of(sys.stdin.fileno(), stop)
        migrate(settings)
        _run(settings, listener, device, stop, as_json)


def _run(
    settings: Settings, listener: socket.socket, device: str, stop: threading.Event, as_json: bool
) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    supervisor = Supervisor(_say)
    try:
        _start(supervisor, settings, listener, url, device, stop)
        _announce(settings, url, device, as_json)
        supervisor.run(stop)
    except Stopped:
        pass
    except GaveUp as error:
        raise CommandError(
            f"The {error.name} keeps dying; its last lines:\n{error.log_tail}\n",
            f"The whole log is {error.log}.",
            code="child_died",
        ) from error
    finally:
        supervisor.stop()


def _start(
    supervisor: Supervisor,
    settings: Settings,
    listener: socket.socket,
    url: str,
    device: str,
    stop: threading.Event,
) -> None:
    environment = {**os.environ, "LATENCY_SERVICE_DATA_DIR": str(settings.data_dir)}
    descriptor = listener.fileno()
    from latency_service.core.client import Client

    token = settings.token
    supervisor.start(
        _spec(settings, environment, "serve", "--fd", str(descriptor), descriptors=(descriptor,))
    )
    with Client(url, token, tries=1) as client:
        _wait(
            supervisor,
            stop,
            "service",
            client.is_ready,
        )
        enrolment = client.create_enrolment().token
        for_agent = {name: value for name, value in environment.items() if name not in SECRETS}
        for_agent |= {"LATENCY_SERVICE_ENROLMENT": enrolment}
        state = settings.data_dir / "agent"
        options = ("--server", url, "--name", device, "--state-dir", str(state))
        supervisor.start(_spec(settings, for_agent, "agent", *options))
        supervisor.start(_spec(settings, environment, "trainer"))
        _wait(supervisor, stop, "agent", lambda: client.device(device).online)


def _spec(
    settings: Settings,
    environment: dict[str, str],
    part: str,
    *options: str,
    descriptors: tuple[int, ...] = (),
) -> ChildSpec:
    return ChildSpec(
        name=part,
        command=(sys.executable, "-m", "latency_service", part, *options),
        environment=environment,
        log=settings.data_dir / "logs" / f"{part}.log",
        descriptors=descriptors,
    )


def _wait(
    supervisor: Supervisor, stop: threading.Event, part: str, is_ready: Callable[[], bool]
) -> None:
    def look() -> bool:
        supervisor.tend()
        return _quietly(is_ready)

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped

    try:
        looks = polled(look, pause_seconds=0.05, timeout_seconds=READY_SECONDS, sleep=pause)
        next(ready for ready in looks if ready)
    except TimeoutError as error:
        raise CommandError(
            f"The {part} was not ready after {READY_SECONDS:.0f} s.",
            "The logs in the data directory say why.",
        ) from error


def _quietly(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except ApiError:
        return False


def _announce(settings: Settings, url: str, device: str, as_json: bool) -> None:
    token_file: Path | None = None if settings.api_token else settings.token_path
    if as_json:
        ready: dict[str, Any] = {
            "url": url,
            "token_file": str(token_file) if token_file else None,
            "data_dir": str(settings.data_dir),
            "device": device,
        }
        return common.print_line(ready)
    token = f"$(cat {token_file})" if token_file else "$LATENCY_SERVICE_API_TOKEN"
    print(
        f"Ready: {url} (API documentation: {url}/docs)\n"
        f"  device  {device}\n"
        f"  data    {settings.data_dir}\n"
        f"  token   {token_file or 'as set in LATENCY_SERVICE_API_TOKEN'}\n"
        f'  try     curl -H "Authorization: Bearer {token}" {url}/v1/devices\n'
        "Ctrl-C stops all of it.",
        flush=True,
    )
    return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
