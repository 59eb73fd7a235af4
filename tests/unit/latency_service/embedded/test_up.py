"""What the embedded service gives its parts, and how it waits for them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_service.core.transport import ApiError
from latency_service.embedded import up
from latency_service.embedded.supervisor import Supervisor
from latency_service.embedded.up import EmbeddedService, PartNotReady, StoppedEarly
from latency_service.settings import Settings


@pytest.fixture
def service(tmp_path: Path) -> Iterator[EmbeddedService]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield EmbeddedService(
            settings=Settings(data_dir=tmp_path),
            listener=listener,
            device="local",
            stop=threading.Event(),
            supervisor=Supervisor(lambda line: None),
        )


def test_the_agent_gets_an_enrolment_token_and_no_secret_of_the_service() -> None:
    environment = {"PATH": "/bin", **dict.fromkeys(up.SECRETS, "secret")}
    assert up.agent_environment(environment, "once") == {
        "PATH": "/bin",
        "LATENCY_SERVICE_ENROLMENT": "once",
    }


def test_an_error_of_the_service_means_not_ready_yet(service: EmbeddedService) -> None:
    answers: Iterator[ApiError | bool] = iter(
        [ApiError(503, "starting", "not yet", ""), False, True]
    )

    def is_ready() -> bool:
        answer = next(answers)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    service.wait_for("service", is_ready)
    assert next(answers, None) is None


def test_a_part_that_is_never_ready_is_named(
    service: EmbeddedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "READY_SECONDS", 0.0)
    with pytest.raises(PartNotReady, match="trainer not ready"):
        service.wait_for("trainer", lambda: False)


def test_a_stop_ends_the_waiting(service: EmbeddedService) -> None:
    service.stop.set()
    with pytest.raises(StoppedEarly):
        service.wait_for("agent", lambda: False)


def test_the_address_names_the_port_that_the_system_chose(service: EmbeddedService) -> None:
    assert service.url == f"http://127.0.0.1:{service.listener.getsockname()[1]}"
