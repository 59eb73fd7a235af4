"""The benchmark of the lattice and its picture, with a profiler that makes its numbers up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import lattice
from benchmarks.support import figures
from latency_service.agent.measuring.ipc import CanaryReadings, ChildResult
from latency_service.agent.measuring.profiler import LeaseResult
from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import ArchitectureResult, Calibration, Protocol, Round

FLOOR = [0.1, 0.4, 0.9]


def blocks(width: int, sweeps: int) -> float:
    return 0.01 * (2 - -width // 8) * (1.3 if width % 8 else 1.0)


def changing(width: int, sweeps: int) -> float:
    """A machine that is another one when every width is measured."""
    return blocks(width, sweeps) if sweeps == 1 else 0.01 * width


class FakeProfiler:
    latency: Callable[[int, int], float]

    def __init__(self, state_dir: Path) -> None:
        self.sweeps = 0

    def batch(
        self,
        space: bytes,
        widths: Sequence[Sequence[int]],
        runtime: RuntimeConfig,
        protocol: Protocol,
    ) -> LeaseResult:
        self.sweeps += 1
        results = [self._result(index, row[0], protocol) for index, row in enumerate(widths)]
        readings = CanaryReadings(
            canaries=["a", "b", "c"], floor_ms=FLOOR, typical_ms=FLOOR, count=9
        )
        answer = ChildResult(results=results, readings=readings, wall_seconds=1, timed_seconds=1)
        calibration = Calibration(canaries=["a", "b", "c"], floor_ms=FLOOR)
        return LeaseResult(Fingerprint(runtime=runtime, facts={}), calibration, answer)

    def _result(self, index: int, width: int, protocol: Protocol) -> ArchitectureResult:
        latency = type(self).latency(width, self.sweeps)
        one = Round(at_seconds=0, latency_ms=latency, runs=5, before_ms=FLOOR, after_ms=FLOOR)
        return ArchitectureResult(
            index=index, rounds=[one] * protocol.min_rounds, stopped="precise"
        )


def run(monkeypatch: pytest.MonkeyPatch, latency: Callable[[int, int], float]) -> Any:
    monkeypatch.setattr(FakeProfiler, "latency", staticmethod(latency), raising=False)
    monkeypatch.setattr(lattice, "Profiler", FakeProfiler)
    return lattice.run(quick=True)


def test_every_width_is_judged_by_the_dense_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run(monkeypatch, blocks)
    assert [bar.holds for bar in outcome.bars] == [True] * 3
    entry = outcome.data["kinds"]["conv3x3"]
    assert (entry["dominated"], entry["named"], entry["worthwhile"], entry["left_out"]) == (
        49,
        49,
        8,
        0,
    )
    assert [p["width"] for p in entry["sweep"] if p["found"]] == list(range(8, 73, 8))


def test_widths_named_wrongly_break_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run(monkeypatch, changing)
    assert outcome.bars[1].value == 49
    assert not outcome.bars[1].holds
    assert outcome.data["kinds"]["conv3x3"]["dominated"] == 0


def test_the_picture_is_drawn_from_the_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcome = run(monkeypatch, blocks)
    result = tmp_path / "lattice.json"
    picture = tmp_path / "images" / "lattice.png"
    arguments = ["lattice", "--result", str(result), "--out", str(picture)]
    assert figures.main(arguments) == 1, "nothing to draw yet"
    document = {
        "machine": {"processor": "made up"},
        "versions": {"onnxruntime": "1"},
        "data": outcome.data,
    }
    result.write_text(json.dumps(document))
    assert figures.main(arguments) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["lpnet", "flops"])
def test_pictures_are_drawn_from_the_committed_results(name: str, tmp_path: Path) -> None:
    picture = tmp_path / f"{name}.png"
    assert figures.main([name, "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
