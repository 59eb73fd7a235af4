"""Which service a job talks to, and when one is started for it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_service.core import credentials
from latency_service.core.client import Client
from latency_service.core.transport import Unreachable
from pruning_client.service import connection
from pruning_client.service.connection import connected
from pruning_client.service.embedded import Embedded
from tests.support.predictor_service import TOKEN, PredictorService


class Starter:
    """Hands out the fake service in place of an embedded one."""

    def __init__(self, service: PredictorService) -> None:
        self.service = service
        self.folders: list[Path] = []
        self.stopped = 0

    @contextlib.contextmanager
    def __call__(self, folder: Path) -> Iterator[Embedded]:
        self.folders.append(folder)
        with Client(self.service.url, TOKEN) as client:
            yield Embedded(client=client, device="board", url=self.service.url)
        self.stopped += 1


@pytest.fixture
def start(service: PredictorService) -> Starter:
    service.on("GET /v1/devices", [])
    return Starter(service)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def nothing_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No address is set, and nobody listens on the default one."""
    for name in ("LATENCY_SERVICE_URL", "LATENCY_SERVICE_TOKEN", "LATENCY_SERVICE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LATENCY_SERVICE_DATA_DIR", str(tmp_path / "data"))
    set_default_url(monkeypatch, unused_url())


def set_default_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for module in (connection, credentials):
        monkeypatch.setattr(module, "DEFAULT_URL", url)


def unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_with_none_running_one_is_started_for_the_job_and_this_is_said(
    start: Starter, said: list[str], tmp_path: Path
) -> None:
    with connected(None, said.append, start=start) as client:
        assert client.devices() == []
        assert start.stopped == 0
    assert (start.folders, start.stopped) == ([tmp_path / "data"], 1)
    (line,) = said
    assert line.startswith("No latency service is running: the embedded one is started")
    assert str(tmp_path / "data") in line


def test_without_a_folder_in_the_environment_the_default_one_keeps_the_measurements(
    start: Starter, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENCY_SERVICE_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with connected(None, said.append, start=start):
        pass
    assert start.folders == [tmp_path / "latency-service"]


def test_a_service_that_runs_on_the_default_address_is_used(
    start: Starter, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_default_url(monkeypatch, start.service.url)
    with connected(None, said.append, token=TOKEN, start=start) as client:
        assert client.url == start.service.url
        assert client.devices() == []
    assert (start.folders, said) == ([], [])


@pytest.mark.parametrize("is_given", [True, False], ids=["given", "set in the environment"])
def test_an_address_that_does_not_answer_is_an_error_and_starts_nothing(
    start: Starter, said: list[str], monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    url = unused_url()
    if not is_given:
        monkeypatch.setenv("LATENCY_SERVICE_URL", url)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with connected(None, said.append, url=url if is_given else None, start=start) as client:
        with pytest.raises(Unreachable, match="does not answer") as caught:
            client.devices()
        assert url in caught.value.message
        assert "latency-service up" in caught.value.cure
    assert (start.folders, said) == ([], [])


def test_a_given_client_is_used_and_left_open(
    start: Starter, said: list[str], client: Client
) -> None:
    with connected(client, said.append, start=start) as found:
        assert found is client
    assert client.devices() == []
    assert (start.folders, said) == ([], [])


def test_a_service_is_stopped_when_the_job_fails(start: Starter, said: list[str]) -> None:
    @contextlib.contextmanager
    def counting(folder: Path) -> Iterator[Embedded]:
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: said.append("stopped"))
            yield stack.enter_context(start(folder))

    with (
        pytest.raises(ZeroDivisionError),
        connected(None, lambda _line: None, start=counting),
    ):
        raise ZeroDivisionError
    assert said == ["stopped"]
