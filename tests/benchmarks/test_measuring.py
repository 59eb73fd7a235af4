from __future__ import annotations

import time

import numpy as np
import psutil
import pytest

from benchmarks.cases import profiling_throughput, quarantine, repeatability, viewers
from benchmarks.cases.quarantine import judged
from benchmarks.cases.repeatability import Visit, differences, overlaps, quiet
from benchmarks.support.harness import Outcome
from benchmarks.support.load import PER_CORE, Load
from latency_service.agent.measuring.ipc import CanaryReadings, ChildResult
from latency_service.agent.measuring.profiler import LeaseResult
from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import ArchitectureResult, Calibration, Round, Summary


def visit(*latencies: float, quiet_share: float = 1.0) -> Visit:
    summaries = [
        Summary(
            latency_ms=ms,
            lower_ms=0.99 * ms,
            upper_ms=1.01 * ms,
            naive_ms=ms,
            verdict="ok",
            trainable=True,
            quiet_share=quiet_share,
            rounds_used=5,
        )
        for ms in latencies
    ]
    return Visit(summaries, {"median": [2 * ms for ms in latencies], "mean": list(latencies)})


def test_differences_are_relative_to_the_mean_of_both() -> None:
    pair = (visit(1.0, 2.0), visit(1.1, 2.0))
    assert differences(pair, "corrected") == pytest.approx([100 * 0.1 / 1.05, 0.0])
    assert differences(pair, "median") == pytest.approx(differences(pair, "corrected"))
    assert overlaps(pair) == [False, True]


def test_a_pair_is_quiet_when_both_were() -> None:
    assert quiet((visit(1.0), visit(1.0))) == [True]
    assert quiet((visit(1.0, quiet_share=0.4), visit(1.0))) == [False]


def test_rounds_of_a_process_follow_one_another() -> None:
    def one(at: float, contenders: int) -> Round:
        return Round(
            at_seconds=at,
            latency_ms=1.0,
            runs=3,
            before_ms=[1.0],
            after_ms=[1.0],
            contenders=contenders,
        )

    results = [
        ArchitectureResult(index=0, rounds=[one(0.0, 0), one(0.2, 1)], stopped="rounds"),
        ArchitectureResult(index=1, rounds=[one(0.1, 0), one(0.3, 0)], stopped="rounds"),
    ]
    answer = ChildResult(
        results=results,
        readings=CanaryReadings(canaries=["tiny"], floor_ms=[1.0], typical_ms=[1.0], count=9),
        wall_seconds=1.0,
        timed_seconds=0.9,
        clock_seconds=100.0,
    )
    target = Fingerprint(runtime=RuntimeConfig(), facts={})
    found = judged(LeaseResult(target, Calibration(canaries=["one"], floor_ms=[1.0]), answer))
    assert [one.began for one in found] == pytest.approx([100.0, 100.1, 100.2])
    assert [one.ended for one in found] == pytest.approx([100.1, 100.2, 100.3])
    assert [one.quarantined for one in found] == [False, False, True]


def test_the_load_comes_and_goes() -> None:
    with Load(0) as load:
        time.sleep(8.0)
    assert len(load.bursts) >= 1
    for burst in load.bursts:
        assert burst.asked < burst.began < burst.ended < burst.gone
    assert PER_CORE == 2
    assert not [child for child in psutil.Process().children() if _is_busy(child)]


def _is_busy(child: psutil.Process) -> bool:
    try:
        return any("getppid" in word for word in child.cmdline())
    except psutil.Error:  # one of other tests that ends meanwhile
        return False


@pytest.mark.long
@pytest.mark.parametrize(
    ("benchmark", "bars"),
    [(repeatability, 4), (quarantine, 2), (profiling_throughput, 2)],
    ids=["repeatability", "quarantine", "profiling-throughput"],
)
def test_the_quick_form_runs(benchmark: object, bars: int) -> None:
    try:
        outcome = benchmark.run(quick=True)  # type: ignore[attr-defined]
    except SystemExit as error:  # what the quarantine says of a machine that others keep busy
        pytest.skip(str(error))
    assert isinstance(outcome, Outcome)
    assert len(outcome.bars) >= bars
    assert all(np.isfinite(bar.value) for bar in outcome.bars)
    assert outcome.rows


def test_viewers_are_compared_with_all_pairs_of_campaigns() -> None:
    campaigns = [np.array([1.0, 2.0]), np.array([1.1, 2.0]), np.array([1.0, 2.2])]
    found = viewers.differences_between(campaigns)
    tenth = 100 * 0.1 / 1.05
    assert found == pytest.approx([tenth, 0, 0, tenth, tenth, tenth])


@pytest.mark.long
def test_viewers_watch_half_of_the_campaigns() -> None:
    found = viewers.run(quick=True).data["campaigns"]
    assert [len(one["messages"]) for one in found] == [0, viewers.VIEWERS, viewers.VIEWERS, 0]
    assert all(min(one["messages"]) > 0 for one in found if one["watched"])
