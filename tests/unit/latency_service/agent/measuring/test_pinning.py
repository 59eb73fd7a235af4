"""What a measuring process does to itself, seen from inside one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latency_service.agent.measuring.ipc import MeasuringTask
from latency_service.agent.measuring.pinning import (
    NICENESS,
    NICENESS_ALONE,
    allowed_cores,
    chosen_cores,
)
from latency_service.devices.schemas import RuntimeConfig

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits, pinning and sessions of Linux"
)
AUTOGROUP = Path("/proc/self/autogroup")


def inside(
    code: str, *, parent: int | None = None, memory_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a session of its own, after `apply`."""
    task = MeasuringTask(
        source="calibrate", runtime=RuntimeConfig(), memory_bytes=memory_bytes, cpu_seconds=7
    )
    program = (
        "import os, resource, sys; from latency_service.agent.measuring import pinning\n"
        "from latency_service.agent.measuring.ipc import MeasuringTask\n"
        "cores = pinning.apply(MeasuringTask.model_validate_json(sys.argv[1]), "
        f"{parent or os.getpid()})\n{code}"
    )
    return subprocess.run(
        [sys.executable, "-c", program, task.model_dump_json()],
        capture_output=True,
        text=True,
        start_new_session=True,
    )


def test_it_is_pinned_to_the_chosen_core() -> None:
    done = inside("print(cores == sorted(os.sched_getaffinity(0)), cores)")
    assert done.stdout.split(maxsplit=1) == ["True", f"{chosen_cores(1)}\n"]


def test_more_threads_than_cores_get_them_all() -> None:
    assert chosen_cores(200) == allowed_cores()


@pytest.mark.parametrize(
    ("name", "speeds", "chosen"),
    [
        ("cpu_capacity", (446, 446, 1024, 1024), [2, 3]),
        ("cpu_capacity", (1024, 1024, 446, 446), [0, 1]),
        ("cpufreq/cpuinfo_max_freq", (5_000_000, 3_800_000, 5_000_000, 3_800_000), [0, 2]),
        ("cpu_capacity", (1024, 1024, 1024, 1024), [2, 3]),
    ],
    ids=["little first", "big first", "by clock", "all equal"],
)
def test_the_fastest_cores_are_chosen(
    name: str,
    speeds: tuple[int, ...],
    chosen: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    for core, speed in enumerate(speeds):
        path = tmp_path / f"cpu{core}" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{speed}\n")
    assert chosen_cores(2, tmp_path) == chosen


@pytest.mark.parametrize(
    ("siblings", "chosen"),
    [
        (("0-1", "0-1", "2-3", "2-3"), [[3], [1, 3], [1, 2, 3], [0, 1, 2, 3]]),
        (("0,2", "1,3", "0,2", "1,3"), [[3], [2, 3], [1, 2, 3], [0, 1, 2, 3]]),
    ],
    ids=["side by side", "in two rows"],
)
def test_threads_get_cores_of_their_own_before_they_share_one(
    siblings: tuple[str, ...],
    chosen: list[list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    for core, text in enumerate(siblings):
        path = tmp_path / f"cpu{core}" / "topology/thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")
    assert [chosen_cores(threads, tmp_path) for threads in (1, 2, 3, 4)] == chosen


def test_its_processor_time_and_cores_dumped_are_limited() -> None:
    done = inside(
        "print(resource.getrlimit(resource.RLIMIT_CPU)[0], "
        "resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    assert done.stdout.split() == ["7", "0"]


def test_its_private_memory_is_limited() -> None:
    done = inside("bytearray(1 << 30)", memory_bytes=1 << 29)
    assert "MemoryError" in done.stderr


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="only root may ask for priority"
)
def test_it_has_priority_beyond_its_own_session() -> None:
    done = inside(
        f"print(os.getpriority(os.PRIO_PROCESS, 0)); print(open({str(AUTOGROUP)!r}).read())"
    )
    wanted = NICENESS if len(allowed_cores()) > 1 else NICENESS_ALONE
    niceness, *group = done.stdout.split()
    assert int(niceness) == wanted
    if AUTOGROUP.exists():
        assert int(group[-1]) == wanted


def test_without_its_agent_it_does_not_start() -> None:
    done = inside("print('alive')", parent=1 << 22)
    assert (done.returncode, done.stdout) == (1, "")
