"""What the measuring process does to itself before anything of a stranger's is loaded: limits,
place, priority.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from latency_service.agent.measuring.ipc import MeasuringTask

#: Priority that is asked for (root only): with a core to spare, and without one. Beside two busy
#: processes a core, the share of visits without any interruption rose from 3 % to 92 and 85 %, and
#: the visits in a given time to threefold.
NICENESS = -20
NICENESS_ALONE = -10
_PR_SET_PDEATHSIG = 1
_CPU = Path("/sys/devices/system/cpu")


def apply(task: MeasuringTask, parent: int) -> list[int]:
    """Limit, pin and prioritise this process, child of `parent`; the cores that it may use from now
    on.
    """
    _die_with(parent)
    _limit(task)
    _hurry(NICENESS if len(allowed_cores()) > task.runtime.intra_threads else NICENESS_ALONE)
    return keep_on(chosen_cores(task.runtime.intra_threads))


def allowed_cores() -> list[int]:
    """Cores that this process may run on, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def chosen_cores(threads: int, system: Path = _CPU) -> list[int]:
    """The `threads` fastest of the allowed cores, of equal ones the last (the first one serves most
    interrupts); all of them if too few.

    Processors with cores of several kinds (big.LITTLE, performance and efficiency cores) number
    them in either order. Of hardware threads that share a core, one is taken before any second.
    """
    fastest = sorted(
        allowed_cores(), key=lambda core: (core_speed(core, system), core), reverse=True
    )
    first_of = {_siblings(core, system): core for core in reversed(fastest)}
    first = [core for core in fastest if core in first_of.values()]
    second = [core for core in fastest if core not in first_of.values()]
    return sorted([*first, *second][:threads])


def _siblings(core: int, system: Path) -> str:
    """The hardware threads of the core that this one belongs to; itself where Linux does not
    tell.
    """
    with contextlib.suppress(OSError):
        return (system / f"cpu{core}" / "topology/thread_siblings_list").read_text().strip()
    return str(core)


def core_speed(core: int, system: Path = _CPU) -> int:
    """How fast a core is beside the others of its processor: its capacity where Linux tells it,
    else its highest clock in kHz, else 0.

    Args:
        system: Linux's folder of processors.
    """
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        with contextlib.suppress(OSError, ValueError):
            return int((system / f"cpu{core}" / name).read_text())
    return 0


def keep_on(cores: Sequence[int], thread: int = 0) -> list[int]:
    """Keep a thread, by default the calling one, on cores, where the system lets it."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(thread, cores)
    return list(cores)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)


def _hurry(niceness: int) -> None:
    """Ask for priority. Linux gives each session its own share, within which alone niceness counts:
    so ask for both.
    """
    if os.name == "posix":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


def _limit(task: MeasuringTask) -> None:
    if os.name != "posix":
        return
    import resource

    limits = [(resource.RLIMIT_CORE, 0)]
    if task.memory_bytes is not None:
        # private memory, not address space: ONNX Runtime reserves far more of that than it uses
        limits.append((resource.RLIMIT_DATA, task.memory_bytes))
    if task.cpu_seconds is not None:
        limits.append((resource.RLIMIT_CPU, task.cpu_seconds))
    if task.file_bytes is not None:
        limits.append((resource.RLIMIT_FSIZE, task.file_bytes))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
    for kind, value in limits:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, hard))
