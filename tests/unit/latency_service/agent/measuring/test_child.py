"""The measuring process's own decisions, without a process."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from latency_service.agent.measuring import bench, child
from latency_service.agent.measuring.canaries import CANARIES, build
from latency_service.agent.measuring.ipc import GRAPH_FILE, MeasuringTask
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol
from tests.support.simulated import residual_space

QUICK = Protocol(min_rounds=8, max_rounds=8, warmup_min_seconds=0.0)


class Opened:
    """A network that counts its runs."""

    def __init__(self, runs: list[int]) -> None:
        self._place = len(runs)
        self._runs = runs
        runs.append(0)

    def run(self) -> None:
        self._runs[self._place] += 1
        time.sleep(0.001)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of runs of each session that was opened for the subjects."""
    opened = list[int]()
    monkeypatch.setattr(child, "open_network", lambda *_, **__: Opened(opened))
    return opened


def measure(folder: Path, task: MeasuringTask) -> None:
    child.measure(task, folder, [0])


def test_a_file_is_measured_in_several_sessions_in_turn(tmp_path: Path, runs: list[int]) -> None:
    (tmp_path / GRAPH_FILE).write_bytes(build(CANARIES[0]).SerializeToString())
    measure(tmp_path, MeasuringTask(source="model", runtime=RuntimeConfig(), protocol=QUICK))
    assert len(runs) == child.FILE_SESSIONS
    warm_up = QUICK.warmup_min_runs
    assert min(runs) > warm_up
    assert max(runs) < 2 * min(runs)


def test_each_architecture_of_a_space_has_one_session(tmp_path: Path, runs: list[int]) -> None:
    space = residual_space()
    (tmp_path / GRAPH_FILE).write_bytes(space.data)
    widths = [space.full_widths, [width // 2 for width in space.full_widths]]
    measure(
        tmp_path,
        MeasuringTask(source="space", runtime=RuntimeConfig(), widths=widths, protocol=QUICK),
    )
    assert len(runs) == len(widths)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_rounds_of_one_architecture_never_share_their_readings(
    tmp_path: Path, runs: list[int], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """However quiet the machine is: they are to be independent of each other."""
    monkeypatch.setattr(bench, "STEADY_AGREES", 1e9)
    space = residual_space()
    (tmp_path / GRAPH_FILE).write_bytes(space.data)
    task = MeasuringTask(
        source="space", runtime=RuntimeConfig(), widths=[space.full_widths] * count, protocol=QUICK
    )
    measured = child.measure(task, tmp_path, [0])
    assert [(len(one.rounds), one.stopped) for one in measured.results] == [(8, "rounds")] * count
    for one in measured.results:
        assert len({tuple(each.after_ms) for each in one.rounds}) == 8
    together = {tuple(each.after_ms) for one in measured.results for each in one.rounds}
    assert (len(together) < 8 * count) == (count > 1)
    assert measured.readings.count >= min(20, 8 * count + 1)
    assert len(runs) == count


@pytest.mark.parametrize(
    ("took_seconds", "size_bytes", "further"),
    [(0.01, 1, 3), (0.5, 1, 2), (5.0, 1, 0), (0.01, 100 * 2**20, 1), (0.01, 2**30, 0)],
)
def test_sessions_are_opened_while_time_and_memory_allow(
    took_seconds: float, size_bytes: int, further: int
) -> None:
    protocol = Protocol(budget_seconds=12.0)
    assert child.further_sessions(protocol, took_seconds, size_bytes) == further
