"""What an agent makes of a state folder that a power cut has left behind, or that cannot be written
any more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from latency_service.agent.state import State
from tests.support.agents import Agent, FakeProfiler, eventually, lease_of
from tests.support.fake_agent_service import FakeAgentService
from tests.support.tiny import tiny_space

Start = Callable[..., Agent]


@pytest.fixture
def space_id(fake_service: FakeAgentService) -> str:
    return fake_service.keep(tiny_space().data)


@pytest.mark.parametrize("left", [b"", b'{"fingerprint": {"runtime": {', b"\0" * 4096])
def test_a_result_that_is_not_whole_is_measured_again(
    fake_service: FakeAgentService, start: Start, space_id: str, state: State, left: bytes
) -> None:
    state.spool("t1", left)
    fake_service.offer(lease_of("t2", space_id))
    start()
    eventually(lambda: "t2" in fake_service.results)
    assert "t1" not in fake_service.results
    assert "t1" not in fake_service.failures, "the job is not at fault"
    assert (state.folder / "refused" / "t1.json").read_bytes() == left


def test_what_was_half_written_is_neither_delivered_nor_kept(state: State) -> None:
    places = [state.folder, state.folder / "spool", state.folder / "spaces"]
    drafts = [place / ".t1.json.x8q.draft" for place in places]
    for draft in drafts:
        draft.write_bytes(b'{"half": ')
    assert list(state.spooled()) == []
    State(state.folder)
    assert not any(draft.exists() for draft in drafts)


@pytest.mark.parametrize("left", [b"", b"0123", b"\0" * 64])
def test_a_damaged_registration_key_is_drawn_anew(state: State, left: bytes) -> None:
    (state.folder / "registration.key").write_bytes(left)
    key = state.registration_key()
    assert len(key) == 64
    assert State(state.folder).registration_key() == key


def test_a_folder_that_becomes_read_only_is_a_typed_failure_and_work_goes_on(
    fake_service: FakeAgentService,
    start: Start,
    space_id: str,
    state: State,
    profiler: FakeProfiler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spool = State.spool

    def read_only(self: State, attempt_id: str, result: bytes) -> None:
        if attempt_id == "t1":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.folder))
        spool(self, attempt_id, result)

    monkeypatch.setattr(State, "spool", read_only)
    fake_service.offer(lease_of("t1", space_id))
    fake_service.offer(lease_of("t2", space_id))
    start()
    eventually(lambda: "t2" in fake_service.results)
    failure: dict[str, Any] = fake_service.failures["t1"]
    assert failure["kind"] == "device_unhealthy"
    assert "Read-only file system" in failure["message"]
