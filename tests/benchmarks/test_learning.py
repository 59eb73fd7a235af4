"""The parts of the predictors' benchmarks that decide: what is kept, what is read, which
differences count.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmarks.cases import gradient, intervals, lpnet, lpnet_third_party, transfer
from benchmarks.support import measured, third_party
from benchmarks.support.measured import Measurements, Store, lattice_of, repeat_difference
from latency_service.agent.measuring.ipc import CanaryReadings, ChildResult
from latency_service.agent.measuring.profiler import LeaseResult
from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import ArchitectureResult, Calibration, Protocol, Round
from latency_service.spaces.slicing import SearchSpace
from tests.support.simulated import residual_space

FLOOR_MS = [0.1, 0.4, 0.9]
FLOOR = Calibration(canaries=["tiny", "half", "full"], floor_ms=FLOOR_MS)


class Machine:
    """Takes a microsecond for each channel; counts what it was asked, and is too busy for what is
    in `busy`.
    """

    asked: ClassVar[list[list[int]]] = []
    busy: ClassVar[set[tuple[int, ...]]] = set()
    drift = 1.0

    def __init__(self, state_dir: Path) -> None:
        pass

    def batch(
        self,
        space: bytes,
        widths: Sequence[Sequence[int]],
        runtime: RuntimeConfig,
        protocol: Protocol,
    ) -> LeaseResult:
        Machine.asked += [list(row) for row in widths]
        results = [
            ArchitectureResult(index=i, rounds=self._rounds(row), stopped="precise")
            for i, row in enumerate(widths)
        ]
        readings = CanaryReadings(
            canaries=FLOOR.canaries, floor_ms=FLOOR_MS, typical_ms=FLOOR_MS, count=10
        )
        answer = ChildResult(
            results=results, readings=readings, wall_seconds=1.0, timed_seconds=0.5
        )
        return LeaseResult(Fingerprint(runtime=runtime, facts={}), FLOOR, answer)

    def _rounds(self, widths: Sequence[int]) -> list[Round]:
        scatter = 5.0 if tuple(widths) in Machine.busy else 0.0
        return [
            Round(
                at_seconds=float(at),
                latency_ms=Machine.drift * sum(widths) / 1000 * (1 + scatter * (at % 2)),
                runs=5,
                before_ms=FLOOR_MS,
                after_ms=FLOOR_MS,
            )
            for at in range(Protocol().min_rounds)
        ]


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> SearchSpace:
    monkeypatch.setattr(measured, "Profiler", Machine)
    monkeypatch.setattr(Machine, "asked", [])
    monkeypatch.setattr(Machine, "busy", set())
    monkeypatch.setattr(Machine, "drift", 1.0)
    return residual_space()


def store(space: SearchSpace, folder: Path) -> Store:
    return Store(space, RuntimeConfig(), Protocol(), folder=folder)


def test_what_was_measured_is_kept_and_goes_on_where_it_was(
    space: SearchSpace, tmp_path: Path
) -> None:
    widths = measured.architectures(space, 30)
    first = store(space, tmp_path).measure(widths[:25])
    again = store(space, tmp_path).measure(widths)
    assert len(Machine.asked) == 30
    np.testing.assert_array_equal(again.widths[:25], first.widths)
    np.testing.assert_allclose(again.latency_ms, widths.sum(1) / 1000, rtol=1e-6)


def test_unstable_ones_are_left_out_and_measured_again_by_the_next_run(
    space: SearchSpace, tmp_path: Path
) -> None:
    widths = measured.architectures(space, 20)
    Machine.busy = {tuple(widths[3].tolist())}
    assert len(store(space, tmp_path).measure(widths).widths) == 19
    Machine.busy = set()
    assert len(store(space, tmp_path).measure(widths).widths) == 20
    assert Machine.asked[20:] == [widths[3].tolist()]


def test_a_machine_too_busy_to_measure_on_says_so(space: SearchSpace, tmp_path: Path) -> None:
    widths = measured.architectures(space, 10)
    Machine.busy = {tuple(row) for row in widths.tolist()}
    with pytest.raises(RuntimeError, match=r"\d of 10 .* too busy"):
        store(space, tmp_path).measure(widths)


def test_the_repeat_difference_is_that_of_two_measurements(
    space: SearchSpace, tmp_path: Path
) -> None:
    kept = store(space, tmp_path)
    widths = measured.architectures(space, 10)
    kept.measure(widths)
    Machine.drift = 1.03
    assert repeat_difference(kept, widths) == pytest.approx(3.0)


def test_gradients_are_compared_one_lattice_step_to_each_side(
    space: SearchSpace, tmp_path: Path
) -> None:
    lattice = lattice_of(space)
    at = gradient._inner(measured.architectures(space, 6), lattice)
    pairs = gradient._pairs(at, lattice, len(lattice))
    for pair in pairs:
        narrower = np.array(pair.narrower)
        wider = np.array(pair.wider)
        (group,) = np.flatnonzero(narrower != wider)
        steps = lattice[group]
        assert group == pair.group
        assert steps.index(wider[group]) - steps.index(narrower[group]) == 2
    slopes, told_apart = gradient._slopes(store(space, tmp_path), pairs)
    np.testing.assert_allclose(slopes, 1e-3, rtol=1e-6)
    assert told_apart.all()


def test_coverage_holds_within_three_points_to_both_sides() -> None:
    assert [intervals._bar("s", covered).holds for covered in (86.9, 87.0, 93.0, 93.1)] == [
        False,
        True,
        True,
        False,
    ]


def test_lpnet_is_allowed_the_floor_or_three_per_cent() -> None:
    trained = {"mape": 3.5, "within_5": 80.0, "seconds": 5.0}
    quiet = lpnet._bars("s", {"repeat_difference": 1.0, "trained": {"100": trained}})
    noisy = lpnet._bars("s", {"repeat_difference": 3.0, "trained": {"100": trained}})
    assert [(bar.limit, bar.holds) for bar in quiet] == [(3.0, False), (90.0, False), (20, True)]
    assert [(round(bar.limit, 2), bar.holds) for bar in noisy] == [(4.2, True), (20, True)]


def test_transfer_compares_some_measurements_with_scratch() -> None:
    few, some, scratch = ({"mape": mape, "spearman": 0.99} for mape in (6.0, 2.5, 2.0))
    bars = transfer._bars({"target": "t", "trained": {"10": few, "50": some, "400": scratch}})
    assert [(bar.value, bar.holds) for bar in bars] == [(0.99, True), (6.0, True), (1.25, True)]


def test_draws_are_averaged() -> None:
    drawn = [
        {
            "mape": e,
            "spearman": 1.0,
            "oracle": {"mape": 2 * e, "spearman": e},
            "oracle_knows": "measured",
            "model": "m",
        }
        for e in (1.0, 3.0)
    ]
    mean = transfer._mean(drawn)
    assert (mean["mape"], mean["oracle_knows"], mean["drawn"]) == (2.0, "measured", drawn)
    assert mean["oracle"] == {"mape": 4.0, "spearman": 2.0}


def test_a_target_that_was_finished_is_not_done_again(tmp_path: Path) -> None:
    done = []

    def part() -> dict[str, Any]:
        done.append(1)
        return {"target": "here t1/b1", "trained": {}}

    first, second = (transfer._resumed(tmp_path / "kept", "here t1/b1", part) for _ in range(2))
    assert (first, len(done)) == (second, 1)
    assert transfer._resumed(None, "here t1/b1", part) == first
    assert len(done) == 2


def test_a_table_of_transformers_is_read(tmp_path: Path) -> None:
    names = [f"encoder_{i}" for i in range(4)] + [f"decoder_{i}" for i in range(6)]
    header = ["dataset", *names, "latency_mean_encoder", "latency_mean_decoder"]
    rows = [
        ["wmt14ende_cpu_xeon", *map(str, range(10)), "1.5", "20"],
        ["other", *map(str, range(10)), "1", "2"],
    ]
    with gzip.open(tmp_path / "hat_transformer_latency.csv.gz", "wt") as file:
        file.write("\n".join(",".join(row) for row in [header, *rows]))
    other, xeon = third_party.hat(tmp_path)
    assert (xeon.latency_ms.tolist(), xeon.widths.tolist()) == (
        [21.5],
        [list(map(float, range(10)))],
    )
    assert xeon.references == {100: 6.68, 400: 5.53, 1600: 5.11}
    assert other.references == {}


def test_the_folder_has_to_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lpnet_third_party.run(True)
    assert "--data FOLDER" in capsys.readouterr().err


def test_rows_of_measurements_become_a_training_set(space: SearchSpace, tmp_path: Path) -> None:
    found: Measurements = store(space, tmp_path).measure(measured.architectures(space, 12))
    data: Any = found.first(5).training_set(seed=2)
    assert (data.widths.shape, data.seed, len(data.measurement_ids)) == (
        (5, len(space.groups)),
        2,
        5,
    )
    np.testing.assert_array_equal(data.latency_ms, found.latency_ms[:5])


def test_the_oracle_knows_the_other_targets() -> None:
    """A power of one of them, and what only two of them together tell; nothing of networks that
    nobody measured.
    """
    rng = np.random.default_rng(0)
    widths, (first, second) = np.arange(60.0).reshape(-1, 1), rng.uniform(1, 9, (2, 60))
    others = [transfer.Column(widths, ms) for ms in (first, second)]

    def judged(latency_ms: np.ndarray, others: list[transfer.Column]) -> transfer.Judged | None:
        seen, held = (
            transfer.Column(widths[rows], latency_ms[rows]) for rows in (slice(30), slice(30, None))
        )
        known, asked = (transfer._elsewhere(column, others) for column in (seen, held))
        return transfer.oracle(known, asked, seen, held)

    assert judged(3 * first**0.5, others) == pytest.approx((0, 1), abs=1e-6)
    both, alone = (judged(np.sqrt(first * second), known) for known in (others, others[:1]))
    assert both is not None
    assert alone is not None
    assert both.mape < 3 < 10 < alone.mape
    assert both.spearman > 0.99 > 0.9 > alone.spearman
    assert judged(first, [transfer.Column(widths + 100, first)]) is None
