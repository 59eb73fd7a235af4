"""The embedded service: the HTTP service, one local agent and one trainer as child processes."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latency_service.core.transport import ApiError
from latency_service.core.waiting import polled
from latency_service.embedded.supervisor import ChildSpec, Supervisor

if TYPE_CHECKING:
    from latency_service.core.client import Client
    from latency_service.settings import Settings

READY_SECONDS = 60.0
DRAIN_SECONDS = "3"
#: Environment variables that the agent must not see.
SECRETS = ("LATENCY_SERVICE_API_TOKEN", "LATENCY_SERVICE_TOKEN", "LATENCY_SERVICE_DATABASE_URL")


class StoppedEarly(Exception):
    """`stop` was set before all parts were ready."""


class PartNotReady(Exception):
    """A part was not ready after `READY_SECONDS`."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} not ready after {READY_SECONDS:.0f} s")
        self.part = part


@dataclass(frozen=True, kw_only=True)
class EmbeddedService:
    """All parts of the service on this machine, as children of one supervisor.

    Use from one thread. `run` ends all children, however it ends.
    """

    settings: Settings
    #: Listening socket that the HTTP service inherits.
    listener: socket.socket
    #: Name of this machine as a device.
    device: str
    #: Event that ends `run`.
    stop: threading.Event
    supervisor: Supervisor

    @property
    def url(self) -> str:
        """Address of the service."""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def token_file(self) -> Path | None:
        """File of the API token; None when the settings give the token itself."""
        return None if self.settings.api_token else self.settings.token_path

    def sign_in_link(self) -> str:
        """A link that opens the dashboard and signs the browser in, once."""
        from latency_service.core.client import Client

        with Client(self.url, self.settings.token, tries=1) as client:
            return self.url + self.settings.root_path + client.create_sign_in_code().path

    def run(self, prepare: Callable[[], object], on_ready: Callable[[], None]) -> None:
        """Start all parts, call `on_ready`, and restart parts that die until `stop` is set.

        Args:
            prepare: makes the database ready, while the process of the HTTP service is starting.

        Raises:
            GaveUp: a part died too often.
            PartNotReady: a part did not become ready in time.
        """
        gate, opener = os.pipe()
        try:
            self._start(prepare, gate, opener)
            on_ready()
            self.supervisor.run(self.stop)
        except StoppedEarly:
            pass
        finally:
            self.supervisor.stop()
            os.close(gate)

    def start_demo(self) -> None:
        """Start the program that measures the demo data; it ends with the other parts."""
        from latency_service.embedded import demo

        self.supervisor.start(
            demo.program(self.url, self.device, self.settings.token, self._environment())
        )

    def _start(self, prepare: Callable[[], object], gate: int, opener: int) -> None:
        from latency_service.core.client import Client

        try:
            self._start_service(gate)
            prepare()
        finally:
            # an end of input, for this process and for those that are started again
            os.close(opener)
        with Client(self.url, self.settings.token, tries=1) as client:
            self.wait_for("service", client.is_ready)
            self._start_agent(client.create_enrolment(self.device).token)
            self.wait_for("agent", lambda: is_online(client, self.device))
            # last: it is not waited for, and its imports would slow the others'
            self._start_part("trainer", self._environment())

    def _start_service(self, gate: int) -> None:
        descriptor = self.listener.fileno()
        # within the time that the supervisor gives its children to stop
        environment = {**self._environment(), "LATENCY_SERVICE_DRAIN_SECONDS": DRAIN_SECONDS}
        options = ("--fd", str(descriptor), "--after-fd", str(gate))
        self._start_part("serve", environment, *options, descriptors=(descriptor, gate))

    def _start_agent(self, enrolment: str) -> None:
        state = self.settings.data_dir / "agent"
        options = ("--server", self.url, "--name", self.device, "--state-dir", str(state))
        self._start_part("agent", agent_environment(self._environment(), enrolment), *options)

    def _start_part(
        self,
        part: str,
        environment: Mapping[str, str],
        *options: str,
        descriptors: tuple[int, ...] = (),
    ) -> None:
        spec = ChildSpec(
            name=part,
            command=(sys.executable, "-m", "latency_service", part, *options),
            environment=environment,
            log=self.settings.data_dir / "logs" / f"{part}.log",
            descriptors=descriptors,
        )
        self.supervisor.start(spec)

    def _environment(self) -> dict[str, str]:
        # one machine for one person: if it drifts, predictors become stale, but work goes on
        defaults = {"LATENCY_SERVICE_QUARANTINE": "false"}
        data_dir = str(self.settings.data_dir)
        return {**defaults, **os.environ, "LATENCY_SERVICE_DATA_DIR": data_dir}

    def wait_for(self, part: str, is_ready: Callable[[], bool]) -> None:
        """Look after the children until `is_ready` is true; an `ApiError` means not yet.

        Raises:
            PartNotReady: it is not true after `READY_SECONDS`.
            StoppedEarly: `stop` was set meanwhile.
        """

        def look() -> bool:
            self.supervisor.tend()
            return _is_true(is_ready)

        looks = polled(look, pause_seconds=0.05, timeout_seconds=READY_SECONDS, sleep=self._pause)
        try:
            next(ready for ready in looks if ready)
        except TimeoutError as error:
            raise PartNotReady(part) from error

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise StoppedEarly


def agent_environment(environment: Mapping[str, str], enrolment: str) -> dict[str, str]:
    """The environment of the agent: no secret of the service, but an enrolment token."""
    shared = {name: value for name, value in environment.items() if name not in SECRETS}
    return {**shared, "LATENCY_SERVICE_ENROLMENT": enrolment}


def is_online(client: Client, device: str) -> bool:
    """Whether an agent of the device is online."""
    return client.device(device).online


def _is_true(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except ApiError:
        return False
