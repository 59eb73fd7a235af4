from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latency_service.agent.measuring.interference import Moment, Witness, disturbance
from latency_service.agent.measuring.quota import Quota

STAT = """cpu  1 2 3 4 5 6 7 30 0 0
cpu0 1 2 3 4 5 6 7 10 0 0
cpu1 1 2 3 4 5 6 7 20 0 0
ctxt 9
procs_running 4
"""


def moment(stolen_ms: float = 0.0, contenders: int = 0, throttled: int = 0) -> Moment:
    return Moment(stolen_ms=stolen_ms, contenders=contenders, throttled=throttled)


def test_counts_the_cores_that_are_used(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT)
    tick_ms = Witness([0], stat).look().stolen_ms / 10
    assert tick_ms > 0
    assert Witness([1], stat).look().stolen_ms == 20 * tick_ms
    assert Witness([0, 1], stat).look() == moment(stolen_ms=30 * tick_ms, contenders=3)


@pytest.mark.parametrize(
    ("ready", "cores", "contenders"), [(1, [0], 0), (2, [0], 0), (3, [0], 1), (2, [0, 1], 1)]
)
def test_a_task_with_a_core_to_itself_is_no_contender(
    tmp_path: Path, ready: int, cores: list[int], contenders: int
) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT.replace("procs_running 4", f"procs_running {ready}"))
    assert Witness(cores, stat).look().contenders == contenders


def test_the_threads_of_the_network_itself_are_no_contenders(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT)
    found = [Witness([0, 1], stat, threads=count).look().contenders for count in (1, 2, 3, 5)]
    assert found == [3, 2, 1, 0]


def test_throttling_is_read_where_it_is_told(tmp_path: Path) -> None:
    for core, count in ((0, 5), (1, 7)):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert Witness([0, 1, 2], tmp_path / "none", tmp_path).look() == moment(throttled=12)


def test_halts_by_every_quota_are_counted(tmp_path: Path) -> None:
    limits = []
    for name, halts in (("own", 3), ("above", 4), ("silent", None)):
        folder = tmp_path / name
        folder.mkdir()
        if halts is not None:
            (folder / "cpu.stat").write_text(f"nr_periods 9\nnr_throttled {halts}\n")
        limits.append(Quota(cpus=1.0, group=f"/{name}", folder=folder))
    seen = Witness([0], tmp_path / "none", tmp_path, limits).look()
    assert seen.halted == 7
    assert disturbance(moment(), seen, 20.0) == "the CPU quota halted it"


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert Witness([0], tmp_path / "none", tmp_path).look() == moment()


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (moment(stolen_ms=5.0), None),
        (moment(stolen_ms=15.0), "the hypervisor took 10 ms"),
        (moment(stolen_ms=5.0, throttled=1), "the processor was throttled by heat"),
        (moment(stolen_ms=5.0, contenders=9), None),
    ],
)
def test_what_makes_a_round_worthless(after: Moment, reason: str | None) -> None:
    assert disturbance(moment(stolen_ms=5.0), after, 20.0) == reason


def test_a_tick_of_a_long_round_is_nothing() -> None:
    tick = moment(stolen_ms=10.0)
    assert disturbance(moment(), tick, 900.0) is not None
    assert disturbance(moment(), tick, 1100.0) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell")
def test_sees_a_busy_process_for_each_core() -> None:
    cores = os.cpu_count() or 1
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        time.sleep(0.3)
        looks = [Witness([0]).look().contenders for _ in range(20) if not time.sleep(0.01)]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert sum(count > 0 for count in looks) >= 18
