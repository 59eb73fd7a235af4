"""A storm that hides what went wrong, or breaks nothing, does not pass."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import chaos
from benchmarks.support.chaos.feeder import Feeder
from benchmarks.support.chaos.history import Acknowledged
from benchmarks.support.chaos.processes import simulated_agent
from benchmarks.support.chaos.stored import Stored
from benchmarks.support.chaos.storm import Outcome, Plan
from latency_service.core.transport import Unreachable

PLAN = Plan(dialect="sqlite", seed=1, service_kills=1, agent_kills=1, database_restarts=1, points=2)
GOOD: dict[str, Any] = {
    "service_kills": 1,
    "agent_kills": 1,
    "database_restarts": 1,
    "kills": {"agent: any moment": 3, "agent: one": 1, "service: two": 1},
    "stops": 1,
    "refused_starts": 0,
    "faults": {"a page": 1, "a reset": 1},
    "statuses": {"200": 9},
    "unexpected": [],
    "undelivered": 0,
    "events": [Acknowledged(agent="a", attempt_id="1", outcome="accepted", measurement_ids=[])],
    "stored": Stored(campaigns=[], jobs=[], attempts=[], measurements=[]),
    "violations": [],
    "seconds": 1.0,
}


def missed(**more: Any) -> set[str]:
    bars = chaos._bars(PLAN, Outcome(**{**GOOD, **more}))
    return {bar.bar.removeprefix("sqlite: ") for bar in bars if not bar.holds}


@pytest.mark.parametrize(
    ("more", "bar"),
    [
        ({"kills": {"agent: any moment": 9, "agent: one": 9}}, "named points of kills"),
        ({"stops": 0}, "stops for longer than a lease"),
        ({"faults": {"a page": 9}}, "kinds of network faults"),
        ({"events": []}, "acknowledged results"),
        ({"undelivered": 1}, "results that were not delivered"),
        ({"unexpected": ["it ended"]}, "processes that ended by themselves"),
        ({"statuses": {"500": 1}}, "answers with status 500"),
    ],
)
def test_a_storm_has_to_be_one_and_to_end_well(more: dict[str, Any], bar: str) -> None:
    assert missed() == set()
    assert missed(**more) == {bar}


def feeder(folder: Path) -> Feeder:
    return Feeder(["http://127.0.0.1:9"], "t" * 20, ["board"], folder / "feeder.jsonl", seed=1)


def test_what_ends_the_feeder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([Unreachable("http://service", OSError("away")), ValueError("a bug")])

    def fail(_: Feeder) -> None:
        raise next(asked)

    monkeypatch.setattr("benchmarks.support.chaos.feeder.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(Feeder, "_feed", fail)
    one = feeder(tmp_path)
    one.start()
    one._thread.join(20)
    assert one.refusals == {0: 1}
    assert str(one.failure) == "a bug"
    one.close()


def test_a_signal_to_a_process_that_does_not_run_is_not_sent(tmp_path: Path) -> None:
    agent = simulated_agent("agent", "board", "http://127.0.0.1:9", tmp_path)
    assert not agent.send(signal.SIGSTOP)
