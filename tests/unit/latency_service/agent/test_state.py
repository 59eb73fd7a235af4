from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from latency_service.agent.state import Identity, State
from latency_service.devices.schemas import Cadence

ME = Identity(
    server="http://service",
    device="board",
    agent_id="a1",
    agent_token="secret",
    cadence=Cadence(heartbeat_seconds=5, poll_seconds=1, wait_seconds=25),
)
DATA = b"a search space"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_identity_outlives_the_process(state: State) -> None:
    assert state.identity() is None
    state.keep_identity(ME)
    assert State(state.folder).identity() == ME


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_only_the_owner_reads_the_token(state: State) -> None:
    previous = os.umask(0)
    try:
        state.keep_identity(ME)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((state.folder / "identity.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"{", b'{"server": "http://service"}'])
def test_a_damaged_identity_is_none(state: State, damage: bytes) -> None:
    (state.folder / "identity.json").write_bytes(damage)
    assert state.identity() is None


def test_a_write_that_fails_leaves_what_was_there(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.keep_identity(ME)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        state.keep_identity(ME.model_copy(update={"agent_id": "a2"}))
    assert state.identity() == ME
    with pytest.raises(OSError, match="No space"):
        state.spool("t1", b"half of a result")
    assert list(state.spooled()) == []


def test_results_wait_in_the_order_in_which_they_came(state: State) -> None:
    for seconds, attempt in enumerate(["b", "c", "a"], start=1):
        state.spool(attempt, f'"{attempt}"'.encode())
        os.utime(state.folder / "spool" / f"{attempt}.json", (seconds, seconds))
    again = State(state.folder)
    assert list(again.spooled()) == [("b", b'"b"'), ("c", b'"c"'), ("a", b'"a"')]
    again.delivered("c")
    again.delivered("c")
    assert [attempt for attempt, _ in again.spooled()] == ["b", "a"]


def test_a_result_delivered_while_they_are_listed_is_passed_over(state: State) -> None:
    for attempt in ("a", "b"):
        state.spool(attempt, f'"{attempt}"'.encode())
    listing = state.spooled()
    first, _ = next(listing)
    for attempt in ("a", "b"):
        state.delivered(attempt)
    assert (first in ("a", "b"), list(listing)) == (True, [])


def test_a_listing_outlives_a_file_that_vanishes_as_it_is_sorted(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.spool("a", b"{}")
    stat = Path.stat

    def delivered_first(path: Path, **options: Any) -> os.stat_result:
        state.delivered("a")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", delivered_first)
    assert list(state.spooled()) == []


def test_a_refused_result_is_put_aside_not_lost(state: State) -> None:
    state.spool("t1", b"{}")
    kept = state.refused("t1")
    assert (list(state.spooled()), kept.read_bytes()) == ([], b"{}")


def test_a_space_is_fetched_once(state: State) -> None:
    fetched: list[str] = []

    def fetch(sha256: str) -> bytes:
        fetched.append(sha256)
        return DATA

    assert [state.space(SHA256, fetch), state.space(SHA256, fetch)] == [DATA, DATA]
    assert fetched == [SHA256]


@pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA + b"!"])
def test_a_damaged_space_is_fetched_again(state: State, damage: bytes) -> None:
    state.space(SHA256, lambda _: DATA)
    (path,) = (state.folder / "spaces").iterdir()
    path.write_bytes(damage)
    assert state.space(SHA256, lambda _: DATA) == DATA
    assert path.read_bytes() == DATA
