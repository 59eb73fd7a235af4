"""Devices far slower than a server: what they are measured with follows their speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_service.agent.measuring import child
from latency_service.agent.measuring.bench import LONGEST_RUN_MS, Bench
from latency_service.agent.measuring.canaries import CANARIES, READING_MS, Canary, build, chosen
from latency_service.agent.measuring.child import budget_seconds
from latency_service.agent.measuring.ipc import MeasuringFailed, MeasuringTask
from latency_service.agent.measuring.profiler import FILE_ROUNDS, Profiler, Reference
from latency_service.agent.measuring.sandbox import Limits, slowness_of
from latency_service.agent.measuring.sessions import open_network
from latency_service.agent.measuring.timing import Stopwatch
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Calibration, Protocol
from latency_service.measurements.statistics import summarise
from tests.support.simulated import residual_space
from tests.support.slow_device import SlowDevice, fast_clock

SERVER_MS = {"tiny": 0.1, "half": 0.35, "full": 0.9, "wide": 3.0}


@pytest.mark.parametrize(
    ("slowness", "names"),
    [
        (1, ["tiny", "half", "full", "wide"]),
        (10, ["tiny", "half", "full", "wide"]),
        (40, ["tiny", "half", "full"]),
        (100, ["tiny", "half"]),
        (5000, ["tiny"]),
    ],
)
def test_canaries_whose_reading_takes_too_long_are_left_out(
    slowness: float, names: list[str]
) -> None:
    found = chosen(lambda canary: slowness * SERVER_MS[canary.name])
    assert [canary.name for canary in found] == names


def test_no_canary_is_tried_beyond_the_first_that_is_too_slow() -> None:
    asked = []

    def latency_ms(canary: Canary) -> float:
        asked.append(canary.name)
        return READING_MS

    assert len(chosen(latency_ms)) == 1
    assert asked == ["tiny", "half"]


def test_a_budget_is_for_rounds_of_a_twentieth_of_a_second() -> None:
    protocol = Protocol(budget_seconds=3.0)
    assert budget_seconds(protocol, [0.5, 8.0], 30.0) == 3.0
    # three runs of 150 ms and a reading of 50 ms: ten times a usual round
    assert budget_seconds(protocol, [150.0], 50.0) == pytest.approx(30.0)
    assert budget_seconds(protocol, [150.0, 0.5], 272.0) == pytest.approx(30.0)


def task_with(floor_ms: float | None, *, count: int = 1) -> MeasuringTask:
    known = None if floor_ms is None else Calibration(canaries=["tiny"], floor_ms=[floor_ms])
    return MeasuringTask(
        source="space", runtime=RuntimeConfig(), widths=[[1]] * count, calibration=known
    )


def test_limits_follow_the_speed_of_the_device() -> None:
    server, board = (Limits.of(task_with(floor_ms)) for floor_ms in (0.1, 10.0))
    assert server.silent_seconds < 150
    assert 300 < board.silent_seconds < 900
    assert server.wall_seconds < board.wall_seconds
    assert Limits.of(task_with(0.1, count=8)).wall_seconds > 5 * server.wall_seconds


@pytest.mark.parametrize(("floor_ms", "slowness"), [(0.05, 1), (0.1, 1), (10, 100), (None, 100)])
def test_slowness_is_told_by_the_fastest_canary(floor_ms: float | None, slowness: float) -> None:
    assert slowness_of(task_with(floor_ms)) == pytest.approx(slowness)


def test_a_device_a_hundred_times_slower_measures_a_batch_and_a_file(tmp_path: Path) -> None:
    device = SlowDevice(slowness=100)
    profiler = Profiler(tmp_path, device)
    space = residual_space()
    half = [width // 2 for width in space.full_widths]
    protocol = Protocol(half_width=0.1)
    batch = profiler.batch(space.data, [space.full_widths, half], RuntimeConfig(), protocol)
    model = build(CANARIES[1]).SerializeToString()
    file = profiler.file(model, RuntimeConfig(), protocol, reference=Reference("space", space.data))
    calibrated = [each.readings for each in device.answers[:3]]
    assert [each.count >= 20 for each in calibrated] == [True] * 3
    for measured, rounds in ((batch, protocol.min_rounds), (file, FILE_ROUNDS)):
        known = measured.calibration
        assert known.canaries == calibrated[0].canaries
        assert 1 <= len(known.canaries) < len(CANARIES)
        assert known.floor_ms[0] > 3.0
        assert known.reference_ms is not None
        for result in measured.answer.results:
            assert len(result.rounds) >= rounds
            assert all(len(one.before_ms) == len(known.canaries) for one in result.rounds)
            summary = summarise(result.rounds, known, protocol)
            assert summary.lower_ms < summary.latency_ms < summary.upper_ms
    dense, narrow = (
        summarise(result.rounds, batch.calibration, protocol).latency_ms
        for result in batch.answer.results
    )
    assert narrow < dense


def test_a_reference_read_in_three_rounds_has_a_floor(tmp_path: Path) -> None:
    space = residual_space()
    spent = Protocol(min_rounds=3, max_rounds=3)
    measured = Profiler(tmp_path, SlowDevice(slowness=100)).batch(
        space.data, [space.full_widths], RuntimeConfig(), spent
    )
    (result,) = measured.answer.results
    assert len(result.rounds) == 3
    assert measured.calibration.reference_ms is not None


def test_a_device_that_is_too_slow_for_anything() -> None:
    with pytest.raises(MeasuringFailed, match="smallest reference network") as caught:
        Bench(RuntimeConfig(), [0], Stopwatch(fast_clock(1_000_000)))
    assert caught.value.kind == "device_unhealthy"


def test_a_network_that_is_too_slow_to_be_measured() -> None:
    bench = Bench(RuntimeConfig(), [0], Stopwatch(fast_clock(10)), canaries=["tiny"])
    network = open_network(build(CANARIES[0]), RuntimeConfig())
    bench.watch = Stopwatch(fast_clock(1000 * LONGEST_RUN_MS))
    with pytest.raises(MeasuringFailed, match="smaller network"):
        bench.warm_up(Protocol(), [network])


def test_a_calibration_without_enough_readings_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "CALIBRATE_MOST_SECONDS", 0.0)
    task = MeasuringTask(source="calibrate", runtime=RuntimeConfig(), calibrate_seconds=0.0)
    with pytest.raises(MeasuringFailed, match="were read 0 times") as caught:
        child.measure(task, tmp_path, [0])
    assert caught.value.kind == "device_unhealthy"


def test_the_process_gives_signs_of_life(tmp_path: Path) -> None:
    task = MeasuringTask(source="calibrate", runtime=RuntimeConfig(), calibrate_seconds=0.0)
    child.measure(task, tmp_path, [0])
    assert (tmp_path / "alive").exists()
