"""One budget and seed, with scripted parts: failures are rows, and unlike files are corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import Widths
from pruning_client.methods.magnitude import Magnitude, Uniform
from pruning_client.methods.most_macs import MostMacs
from pruning_client.pipeline.contest import case, kept
from pruning_client.pipeline.contest.case import Case
from pruning_client.pipeline.contest.entrants import Entrant, entrants_of
from pruning_client.pipeline.contest.equality import EqualLatency
from pruning_client.pipeline.contest.files import MeasuredFile
from pruning_client.pipeline.contest.steps import Step
from pruning_client.reports.contest_schema import ContestEntry
from tests.support.contests import result


@dataclass
class Script:
    """Parts of a case that measure and train, replaced."""

    #: Latency of each method's file in ms, by round of correction.
    latencies_ms: list[dict[str, float]]
    #: Methods brought to the common latency, by round.
    levelled: list[list[str]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def run(self, steps: Sequence[Step]) -> None:
        self.steps += steps

    #: Methods that cannot reach the common latency, by round.
    too_slow: list[list[str]] = field(default_factory=lambda: [[], []])

    def level(self, entrants: Sequence[Entrant]) -> dict[str, Widths | BudgetError]:
        self.levelled.append([entrant.label for entrant in entrants])
        turn = len(self.levelled)
        error = BudgetError("It stays too slow.", "Give a larger budget.")
        return {
            entrant.label: error if entrant.label in self.too_slow[turn - 1] else (turn,)
            for entrant in entrants
        }

    def measured(self, _job: Any, files: dict[str, MeasuredFile], _config: Any) -> Any:
        latencies_ms = self.latencies_ms[len(self.levelled) - 1]
        evidence = SimpleNamespace(dense=SimpleNamespace(latency_ms=1.0))
        return {
            label: SimpleNamespace(
                widths=files[label].widths,
                measurement=SimpleNamespace(latency_ms=latencies_ms[label]),
                goal=SimpleNamespace(evidence=evidence),
            )
            for label in files
        }


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script([{"uniform": 0.6, "l1": 0.62, "most-macs": 0.6}] * 2)
    monkeypatch.setattr(Case, "_check_budget", lambda self: None)
    monkeypatch.setattr(Case, "_job", None)
    monkeypatch.setattr(Case, "_level", SimpleNamespace(share=0.6, budget_ms=0.6))
    monkeypatch.setattr(Case, "_levelled", lambda self, entrants: script.level(entrants))
    monkeypatch.setattr(Case, "_file", lambda self, step: SimpleNamespace(widths=step.widths))
    monkeypatch.setattr(
        Case, "_delivered", lambda self, label, file, is_equal: result(90.0, is_equal=is_equal)
    )
    monkeypatch.setattr(case, "measure_in_turn", script.measured)
    return script


def go(script: Script, folder: Path, **config: Any) -> dict[str, ContestEntry]:
    methods = [Uniform(), Magnitude(), MostMacs()]
    made = Case(
        prepared=cast(Any, None),
        entrants=entrants_of(methods, 1),
        config=EqualLatency(**config),
        workers=script,
        budget="60%",
        seed=0,
        out=folder,
        kept=folder / "checkpoint",
        shared_folder=folder / "shared",
        command="pruning-client compare-methods",
    )
    return {entry.method: entry for entry in made.run()}


def test_a_file_unlike_the_others_is_brought_to_their_level_again(
    scripted: Script, tmp_path: Path
) -> None:
    scripted.latencies_ms[1] = {"uniform": 0.6, "l1": 0.601, "most-macs": 0.6}
    entries = go(scripted, tmp_path)
    assert scripted.levelled == [["uniform", "l1", "most-macs"], ["l1"]]
    assert all(entry.result and entry.result.is_equal for entry in entries.values())
    made = [(step.entrant.label, step.widths) for step in scripted.steps if step.widths]
    assert made == [("uniform", (1,)), ("l1", (1,)), ("most-macs", (1,)), ("l1", (2,))]


def test_a_file_that_stays_unlike_the_others_is_marked(scripted: Script, tmp_path: Path) -> None:
    entries = go(scripted, tmp_path, corrections=0)
    equal = {label: entry.result and entry.result.is_equal for label, entry in entries.items()}
    assert equal == {"uniform": True, "l1": False, "most-macs": True}


def test_a_method_that_fails_is_a_row(scripted: Script, tmp_path: Path) -> None:
    kept.save_failure(tmp_path / "checkpoint" / "l1", "this network is out of its reach")
    entries = go(scripted, tmp_path)
    assert entries["l1"].failure == "this network is out of its reach"
    assert entries["l1"].result is None
    assert scripted.levelled == [["uniform", "most-macs"]]


def test_a_method_that_cannot_reach_the_common_latency_is_a_row(
    scripted: Script, tmp_path: Path
) -> None:
    scripted.too_slow[0] = ["uniform"]
    entries = go(scripted, tmp_path, corrections=0)
    assert entries["uniform"].failure == "It stays too slow."
    assert entries["l1"].result is not None


def test_a_file_that_cannot_be_corrected_is_kept_and_marked(
    scripted: Script, tmp_path: Path
) -> None:
    scripted.too_slow[1] = ["l1"]
    entries = go(scripted, tmp_path)
    found = entries["l1"].result
    assert found is not None
    assert not found.is_equal


def test_a_budget_out_of_reach_is_the_reason_of_every_row(
    scripted: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_case: Case) -> None:
        raise BudgetError("below what this network can reach.", "Give a larger budget.")

    monkeypatch.setattr(Case, "_check_budget", refuse)
    entries = go(scripted, tmp_path)
    assert {entry.failure for entry in entries.values()} == {"below what this network can reach."}
    assert scripted.steps == []


def test_a_finished_case_is_read_from_the_disk(scripted: Script, tmp_path: Path) -> None:
    entries = go(scripted, tmp_path)
    done = len(scripted.steps)
    assert go(scripted, tmp_path) == entries
    assert len(scripted.steps) == done
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["entries.json"]
