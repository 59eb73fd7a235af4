from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_service.agent.measuring.calibration import (
    CHANGE,
    KEPT,
    LEAST_READINGS,
    REFERENCE_KEPT,
    CalibrationStore,
    History,
)
from latency_service.agent.measuring.ipc import CanaryReadings

NAMES = ["tiny", "half", "full", "wide"]
FLOOR = (0.1, 0.35, 0.9, 3.0)


def process(factor: float = 1.0, *, wander: float = 0.002, count: int = 100) -> CanaryReadings:
    """CanaryReadings of one process whose floors are `factor` times the machine's, its typical ones
    `wander` above.
    """
    own = [factor * floor for floor in FLOOR]
    return CanaryReadings(
        canaries=NAMES,
        floor_ms=own,
        typical_ms=[value * (1 + wander) for value in own],
        count=count,
    )


def history(*processes: CanaryReadings) -> History:
    made = History()
    for each in processes:
        made = made.with_process(each)
    return made


def test_nothing_is_known_before_the_first_process() -> None:
    assert History().floor() is None


@settings(deadline=None)
@given(st.lists(st.floats(0.997, 1.003), min_size=3, max_size=80), st.floats(0.2, 0.95))
def test_a_single_outlier_cannot_drag_the_floor_down(quiet: list[float], outlier: float) -> None:
    floor = history(*map(process, quiet), process(outlier)).floor()
    assert floor is not None
    for value, usual in zip(floor, FLOOR, strict=True):
        assert 0.996 * usual < value < 1.004 * usual


@settings(deadline=None)
@given(st.permutations([1.0] * 8 + [1.3, 1.4, 1.6, 1.9] * 6))
def test_processes_in_contended_times_do_not_lift_it(factors: list[float]) -> None:
    """Contended processes wander: they are no steady change of the clock, even five in a row."""
    floor = history(
        *(process(factor, wander=0.2 if factor > 1 else 0.002) for factor in factors)
    ).floor()
    assert floor == pytest.approx(FLOOR, rel=0.01)


def test_contention_that_slows_each_canary_differently_is_no_change() -> None:
    beside = CanaryReadings(
        canaries=NAMES,
        floor_ms=[0.18, 0.58, 1.4, 4.2],
        typical_ms=[0.1801, 0.5801, 1.4001, 4.2001],
        count=100,
    )
    assert history(*[process()] * 8, *[beside] * CHANGE).floor() == pytest.approx(FLOOR)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_machine_that_has_changed_forgets(factor: float) -> None:
    before = history(*[process()] * 8)
    almost = history(*before.processes, *[process(factor)] * (CHANGE - 1))
    after = almost.with_process(process(factor))
    assert (len(almost.processes), len(after.processes)) == (8 + CHANGE - 1, CHANGE)
    assert after.floor() == pytest.approx([factor * floor for floor in FLOOR])


def test_a_process_that_read_too_little_does_not_count() -> None:
    assert history(process(count=LEAST_READINGS - 1)).floor() is None


def test_old_processes_are_forgotten() -> None:
    assert len(history(*[process()] * (KEPT + 9)).processes) == KEPT


def test_the_store_keeps_each_target_apart(tmp_path: Path) -> None:
    CalibrationStore(tmp_path / "c").add("one", process())
    store = CalibrationStore(tmp_path / "c")
    known = store.calibration("one")
    assert known is not None
    assert known.canaries == NAMES
    assert known.floor_ms == pytest.approx(FLOOR)
    assert store.calibration("other") is None


@pytest.mark.parametrize(
    "damage", ["", "{", '{"processes": [{"floor_ms": [1.0], "typical_ms": [1.0], "count": 99}]}']
)
def test_a_damaged_history_starts_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "one.json").write_text(damage)
    store = CalibrationStore(tmp_path)
    assert store.calibration("one") is None
    store.add("one", process())
    assert store.calibration("one") is not None


def test_each_reference_of_a_target_has_its_own_floor(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    store.add("target", process())
    for name, floor_ms in (("one", 4.0), ("other", 8.0)):
        readings = CanaryReadings(
            canaries=["reference"], floor_ms=[floor_ms], typical_ms=[floor_ms], count=100
        )
        store.add_reference("target", name, readings)
    found = [store.calibration("target", name) for name in ("one", "other", "new", None)]
    assert [one and one.reference_ms for one in found] == [4.0, 8.0, None, None]


def test_the_floor_of_a_reference_is_a_typical_one_of_its_last_processes(tmp_path: Path) -> None:
    """A share of it would otherwise come out too high: a file's own readings are no lucky ones."""
    store = CalibrationStore(tmp_path)
    store.add("target", process())
    lucky = [0.9 + 0.001 * number for number in range(REFERENCE_KEPT)]
    typical = [1.0 + 0.001 * number for number in range(REFERENCE_KEPT)]
    floors = []
    for floor_ms in (*lucky, *typical):
        readings = CanaryReadings(
            canaries=["reference"], floor_ms=[floor_ms], typical_ms=[floor_ms], count=100
        )
        store.add_reference("target", "one", readings)
        known = store.calibration("target", "one")
        floors.append(known and known.reference_ms)
    assert floors[REFERENCE_KEPT - 1] == lucky[REFERENCE_KEPT // 4]
    assert floors[-1] == typical[REFERENCE_KEPT // 4]


def test_other_canaries_start_a_history_of_their_own(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    store.add("target", process())
    two = CanaryReadings(
        canaries=["tiny", "half"], floor_ms=[10.0, 35.0], typical_ms=[10.0, 35.0], count=20
    )
    store.add("target", two)
    known = store.calibration("target")
    assert known is not None
    assert (known.canaries, known.floor_ms) == (["tiny", "half"], [10.0, 35.0])
