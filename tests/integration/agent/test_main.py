"""An agent from start to stop: registration, identity, exit codes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from latency_service.agent.main import default_name, max_opset, run_agent
from latency_service.agent.state import State
from tests.support.agents import eventually
from tests.support.fake_agent_service import AGENT, ENROLMENT, FakeAgentService


class Running:
    """`run_agent` in a thread; `code` is there when it has ended."""

    def __init__(self, url: str, token: str | None, folder: Path) -> None:
        self.stop = threading.Event()
        self.code = -1
        self._thread = threading.Thread(target=self._run, args=(url, token, folder))
        self._thread.start()

    def _run(self, url: str, token: str | None, folder: Path) -> None:
        self.code = run_agent(url, token, name="board", state_dir=folder, stop=self.stop)

    def end(self, *, stop: bool = True) -> int:
        if stop:
            self.stop.set()
        self._thread.join(timeout=5)
        assert not self._thread.is_alive()
        return self.code


def test_registers_with_its_own_token_after_the_first_time(
    fake_service: FakeAgentService, tmp_path: Path
) -> None:
    first = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.count("leases") == 1)
    assert first.end() == 0
    (request,) = fake_service.registered
    assert (request["device"], request["max_opset"]) == ("board", max_opset())
    assert "CPUExecutionProvider" in request["providers"]
    identity = State(tmp_path).identity()
    assert identity is not None
    assert identity.agent_token == AGENT

    second = Running(fake_service.url, None, tmp_path)
    eventually(lambda: fake_service.count("leases") == 2)
    assert second.end() == 0
    again = fake_service.registered[1:]
    assert [request["device"] for request in again] == ["board"], (
        "an upgraded runtime must reach the service"
    )


def test_another_server_needs_another_registration(
    fake_service: FakeAgentService, tmp_path: Path
) -> None:
    first = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.count("leases"))
    first.end()
    assert Running("http://127.0.0.1:1", None, tmp_path).end(stop=False) == 4


def test_no_token_and_no_identity(
    fake_service: FakeAgentService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Running(fake_service.url, None, tmp_path).end(stop=False) == 4
    assert "latency-service enrolments create" in capsys.readouterr().err
    assert fake_service.requests == []


def test_an_enrolment_token_that_is_not_known(
    fake_service: FakeAgentService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Running(fake_service.url, "wrong", tmp_path).end(stop=False) == 4
    said = capsys.readouterr().err
    assert "new enrolment token" in said
    assert State(tmp_path).identity() is None


def test_an_agent_token_that_is_not_known_any_more(
    fake_service: FakeAgentService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.count("leases"))
    agent.end()
    fake_service.tokens.clear()
    before = threading.active_count()
    assert Running(fake_service.url, None, tmp_path).end(stop=False) == 4
    assert str(tmp_path / "identity.json") in capsys.readouterr().err
    eventually(lambda: threading.active_count() <= before)


def test_an_agent_whose_token_is_revoked_stops_and_says_so(
    fake_service: FakeAgentService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.count("leases"))
    fake_service.stop()  # which also ends the request for work that waits
    fake_service.tokens.clear()
    fake_service.start()
    assert agent.end(stop=False) == 4
    said = capsys.readouterr().err
    assert "The service says 401." in said
    assert "latency-service enrolments create --device board" in said


def test_an_agent_whose_token_is_refused_enrols_again_if_it_can(
    fake_service: FakeAgentService, tmp_path: Path
) -> None:
    agent = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.count("leases"))
    agent.end()
    fake_service.tokens.clear()
    again = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.count("leases") == 2)
    assert again.end() == 0
    first, second = fake_service.registered
    assert first["registration_key"] == second["registration_key"]
    assert len(first["registration_key"]) == 64


def test_a_used_enrolment_token_does_not_hide_why_the_agent_is_refused(
    fake_service: FakeAgentService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.count("leases"))
    agent.end()
    fake_service.tokens.clear()
    assert Running(fake_service.url, "used-already", tmp_path).end(stop=False) == 4
    assert "--device board" in capsys.readouterr().err


def test_a_registration_that_is_refused(
    fake_service: FakeAgentService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_service.instead["register"] = 422
    assert Running(fake_service.url, ENROLMENT, tmp_path).end(stop=False) == 1
    assert "A cure." in capsys.readouterr().err


def test_a_service_that_comes_later(fake_service: FakeAgentService, tmp_path: Path) -> None:
    fake_service.stop()
    agent = Running(fake_service.url, ENROLMENT, tmp_path)
    fake_service.start()
    eventually(lambda: fake_service.registered)
    assert agent.end() == 0


def test_stopped_while_the_service_is_away(tmp_path: Path) -> None:
    assert Running("http://127.0.0.1:1", ENROLMENT, tmp_path).end() == 0


def test_the_host_s_name_is_made_a_device_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: " Jö's böard.local ")
    assert default_name() == "J-s-b-ard.local"
    monkeypatch.setattr("platform.node", lambda: "")
    assert default_name() == "device"


def test_an_agent_whose_state_is_used_elsewhere_ends_and_says_so(
    fake_service: FakeAgentService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Running(fake_service.url, ENROLMENT, tmp_path)
    eventually(lambda: fake_service.heartbeats)
    (registered,) = fake_service.registered
    assert registered["instance"] == fake_service.heartbeats[0]["instance"]
    fake_service.command = "stop"
    assert running.end(stop=False) == 1
    said = capsys.readouterr().err
    assert "was copied" in said
    assert "identity.json" in said
