"""Leases that no device can carry out: each ends in a typed failure, and the agent goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from latency_service.agent.measuring.profiler import Profiler
from latency_service.agent.state import State
from latency_service.jobs.schemas import Failure
from tests.support.agents import Agent, FakeProfiler, eventually, lease_of
from tests.support.fake_agent_service import FakeAgentService
from tests.support.tiny import QUICK, tiny_space

Start = Callable[..., Agent]
INFINITE = float("inf")


def protocol(**values: Any) -> dict[str, Any]:
    return {"protocol": {**QUICK.model_dump(), **values}}


#: Changes to a proper lease.
ABSURD: dict[str, dict[str, Any]] = {
    "infinite budget": protocol(budget_seconds=INFINITE),
    "budget of 1e308": protocol(budget_seconds=1e308),
    "budget of 1e-320": protocol(budget_seconds=1e-320),
    "budget that is no number": protocol(budget_seconds=float("nan")),
    "negative budget": protocol(budget_seconds=-1.0),
    "infinite visit": protocol(round_ms=INFINITE),
    "visit of 1e308 ms": protocol(round_ms=1e308),
    "10^18 runs of warm-up": protocol(warmup_min_runs=10**18),
    "infinite warm-up": protocol(warmup_min_seconds=INFINITE),
    "interval of no width": protocol(half_width=0),
    "interval that is no number": protocol(half_width=float("nan")),
    "10^9 rounds": protocol(min_rounds=10**9),
    "negative seed": {"seed": -1},
    "seed of 10^40": {"seed": 10**40},
    "seed that is a text": {"seed": "x"},
    "unknown kind": {"kind": "format the disk"},
    "training": {"kind": "train"},
    "no architectures": {"architectures": []},
    "100,000 architectures": {"architectures": [{"index": 0, "widths": [8, 8]}] * 100_000},
    "100,000 widths": {"architectures": [{"index": 0, "widths": [8] * 100_000}]},
    "negative widths": {"architectures": [{"index": 0, "widths": [-8, 8]}]},
    "widths of 10^30": {"architectures": [{"index": 0, "widths": [10**30, 8]}]},
    "negative index": {"architectures": [{"index": -1, "widths": [8, 8]}]},
    "10^6 threads": {"runtime": {"intra_threads": 10**6}},
    "batch of 10^9": {"runtime": {"batch": 10**9}},
    "space that is a path": {"space_id": "../../../../etc/passwd"},
    "file that is a path": {"kind": "verify", "model_sha256": "../identity", "architectures": []},
    "file that is not named": {"kind": "verify", "model_sha256": None, "architectures": []},
    "opset of 10^9": {"opset": 10**9},
    "no protocol": {"protocol": None},
    "runtime that is a list": {"runtime": []},
}


@pytest.fixture
def space_id(fake_service: FakeAgentService) -> str:
    return fake_service.keep(tiny_space().data)


@pytest.mark.parametrize("kind", ABSURD)
def test_an_absurd_lease_is_a_typed_failure(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler, kind: str
) -> None:
    fake_service.offer({**lease_of("absurd", space_id), **ABSURD[kind]})
    fake_service.offer(lease_of("proper", space_id))
    start()
    eventually(lambda: "proper" in fake_service.results, seconds=30)
    failure = Failure.model_validate(fake_service.failures["absurd"])
    expected = "version_mismatch" if kind == "opset of 10^9" else "lease_invalid"
    assert failure.kind == expected
    assert "absurd" not in fake_service.results
    assert len(profiler.files) == 1


@pytest.mark.parametrize(
    "lease",
    [
        {"nothing": 1},
        [],
        "lease",
        17,
        {"attempt_id": "../../identity"},
        {"attempt_id": 5},
        {"attempt_id": "x" * 10_000},
    ],
    ids=str,
)
def test_a_lease_without_a_proper_attempt_is_skipped(
    fake_service: FakeAgentService, start: Start, space_id: str, state: State, lease: Any
) -> None:
    fake_service.offer(lease)
    fake_service.offer(lease_of("proper", space_id))
    start()
    eventually(lambda: "proper" in fake_service.results)
    assert fake_service.failures == {}
    assert {path.parent for path in state.folder.parent.rglob("*.json")} <= {state.folder / "spool"}


@pytest.mark.parametrize("seconds", [1e-9, 0.0, -5.0, INFINITE, float("nan"), 1e308])
def test_a_lease_is_renewed_neither_without_a_pause_nor_never(
    fake_service: FakeAgentService,
    start: Start,
    space_id: str,
    profiler: FakeProfiler,
    seconds: float,
) -> None:
    profiler.release.clear()
    fake_service.offer(lease_of("t1", space_id, renew_seconds=seconds, lease_seconds=seconds))
    start()
    eventually(profiler.begun.is_set)
    eventually(lambda: len(fake_service.heartbeats) >= 10)
    renewals = fake_service.count("renew")
    assert renewals <= 25
    profiler.release.set()
    eventually(lambda: "t1" in fake_service.results)


def test_fields_that_an_agent_does_not_know_do_no_harm(
    fake_service: FakeAgentService, start: Start, space_id: str
) -> None:
    fake_service.offer(lease_of("t1", space_id, later={"version": [2] * 10_000}))
    start()
    eventually(lambda: "t1" in fake_service.results)


@pytest.mark.parametrize(
    "error", [RuntimeError("a\x00b\udcff"), KeyError("x"), ZeroDivisionError(), RecursionError()]
)
def test_whatever_goes_wrong_is_told_in_plain_text(
    fake_service: FakeAgentService,
    start: Start,
    space_id: str,
    profiler: FakeProfiler,
    error: Exception,
) -> None:
    profiler.fails = error
    fake_service.offer(lease_of("t1", space_id))
    start()
    eventually(lambda: "t1" in fake_service.failures)
    failure = fake_service.failures["t1"]
    assert failure["kind"] == "internal"
    assert type(error).__name__ in failure["message"]
    assert not {"\x00", "\udcff"} & set(json.dumps(failure, ensure_ascii=False))
    profiler.fails = None
    fake_service.offer(lease_of("t2", space_id))
    eventually(lambda: "t2" in fake_service.results)


def test_widths_outside_of_the_space_fail_in_the_measuring_process(
    fake_service: FakeAgentService, start: Start, space_id: str, calibrated: Profiler
) -> None:
    outside = [{"index": 0, "widths": [99, 99]}, {"index": 1, "widths": [8]}]
    fake_service.offer(lease_of("t1", space_id, architectures=outside))
    start(calibrated)
    eventually(lambda: fake_service.failures, seconds=60)
    assert fake_service.failures["t1"]["kind"] == "model_invalid"


@pytest.fixture
def calibrated(profiler_state: Any) -> Profiler:
    return Profiler(profiler_state)
