"""Runs a measuring process and turns every way in which it can end into an answer or a typed
failure.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import ValidationError

from latency_service.agent.measuring.bench import LONGEST_RUN_MS
from latency_service.agent.measuring.canaries import SERVER_MS
from latency_service.agent.measuring.child import CALIBRATE_MOST_SECONDS, USUAL_ROUND_MS
from latency_service.agent.measuring.ipc import (
    ALIVE_FILE,
    FAILURE_FILE,
    GRAPH_FILE,
    REFERENCE_FILE,
    RESULT_FILE,
    TASK_FILE,
    ChildResult,
    MeasuringFailed,
    MeasuringTask,
)
from latency_service.agent.measuring.timing import LEAST_RUNS
from latency_service.jobs.schemas import Failure

_POLL_SECONDS = 0.05
_LOG_BYTES = 8000
#: For each task, and for each architecture on top of the protocol's budget: loading, materialising,
#: warming up. Each on a server, and for each time that the device is slower than one.
_START_SECONDS = (60.0, 3.0)
_EACH_SECONDS = (45.0, 5.0)
#: Silence after which a process hangs: the longest step is to open or to quantise a network.
_SILENT_SECONDS = (120.0, 4.0)
#: Longest time of one process, whatever is asked for.
_LONGEST_SECONDS = 24 * 3600.0
#: How much slower than a server a device may be that has not been calibrated yet.
_UNKNOWN_SLOWNESS = 100.0
#: How far a measuring process stretches the protocol's budget at most, where a run takes as long as
#: it may.
_LONGEST_BUDGET = 3 * LEAST_RUNS * LONGEST_RUN_MS / USUAL_ROUND_MS


class Cancelled(Exception):
    """The measurement was stopped because nobody wants it any more; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one measuring process may use."""

    wall_seconds: float
    cpu_seconds: int
    #: private memory of the process
    memory_bytes: int
    #: largest file that it may write, its log among them
    file_bytes: int = 4 << 30
    #: without a sign of life: a slow device takes long, but it gets on
    silent_seconds: float = math.inf

    @classmethod
    def of(cls, task: MeasuringTask) -> Limits:
        """Generous limits for `task` on this machine, by the speed that its calibration shows: they
        stop what hangs or grows, not what is slow.
        """
        slowness = slowness_of(task)
        count = max(1, len(task.widths)) + (task.reference is not None)
        each = task.protocol.budget_seconds * _LONGEST_BUDGET + _on(slowness, _EACH_SECONDS)
        wall = _on(slowness, _START_SECONDS) + CALIBRATE_MOST_SECONDS + count * each
        wall = min(wall, _LONGEST_SECONDS)
        available = psutil.virtual_memory().available
        return cls(
            wall_seconds=wall,
            cpu_seconds=int(wall * task.runtime.intra_threads) + 1,
            memory_bytes=int(available * 0.8),
            file_bytes=min(cls.file_bytes, shutil.disk_usage(tempfile.gettempdir()).free // 4),
            silent_seconds=_on(slowness, _SILENT_SECONDS),
        )


def slowness_of(task: MeasuringTask) -> float:
    """How many times slower than a server this device is, by its fastest canary; at least 1."""
    if task.calibration is None:
        return _UNKNOWN_SLOWNESS
    return max(1.0, task.calibration.floor_ms[0] / SERVER_MS)


def _on(slowness: float, seconds: tuple[float, float]) -> float:
    base, each = seconds
    return base + each * slowness


def run(
    task: MeasuringTask,
    graph: bytes | None,
    *,
    reference: bytes | None = None,
    limits: Limits | None = None,
    cancelled: Callable[[], str | None] = lambda: None,
    command: Sequence[str] | None = None,
) -> ChildResult:
    """Carry out `task` on `graph` in a process of its own, and wait for it.

    Args:
        reference: graph of a delivered file's reference.
        cancelled: asked some 20 times a second; a reason stops the process.
        command: what is run instead of the measuring process (tests).

    Raises:
        MeasuringFailed: the process reported a failure, crashed, hung or went over a limit.
        Cancelled: `cancelled` gave a reason.
    """
    limits = limits or Limits.of(task)
    task = task.model_copy(
        update={
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": limits.cpu_seconds,
            "file_bytes": limits.file_bytes,
        }
    )
    with tempfile.TemporaryDirectory(prefix="latency-agent-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / TASK_FILE).write_text(task.model_dump_json())
        if graph is not None:
            (folder / GRAPH_FILE).write_bytes(graph)
        if reference is not None:
            (folder / REFERENCE_FILE).write_bytes(reference)
        kills = _kernel_kills()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(command or (sys.executable, "-m", "latency_service.agent.measuring.child")),
                    name,
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=name,
                env=_environment(),
                start_new_session=True,
            )
            try:
                code = _wait(process, limits, folder / ALIVE_FILE, cancelled)
            finally:
                _kill(process)
        return _answer(folder, code, limits, out_of_memory=_kernel_kills() > kills)


def _wait(
    process: subprocess.Popen[bytes],
    limits: Limits,
    alive: Path,
    cancelled: Callable[[], str | None],
) -> int | None:
    """The exit status, or nothing when the time is over or the process was silent for too long."""
    now = heard = time.monotonic()
    deadline = now + limits.wall_seconds
    sign = 0
    while (now := time.monotonic()) < deadline and now - heard < limits.silent_seconds:
        if (seen := _touched(alive)) != sign:
            sign = seen
            heard = now
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL_SECONDS)
        if reason := cancelled():
            raise Cancelled(reason)
    return None


def _touched(path: Path) -> int:
    """When the file was touched, ns; 0 before it is there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _answer(folder: Path, code: int | None, limits: Limits, *, out_of_memory: bool) -> ChildResult:
    tail = _tail(folder / "log")
    try:
        if code == 0:
            return ChildResult.model_validate_json((folder / RESULT_FILE).read_bytes())
        if code is not None and (folder / FAILURE_FILE).exists():
            failure = Failure.model_validate_json((folder / FAILURE_FILE).read_bytes())
            raise MeasuringFailed(failure.kind, failure.message, tail)
    except (OSError, ValidationError) as error:
        raise MeasuringFailed(
            "internal", f"the measuring process left no valid answer: {error}", tail
        ) from error
    if code is None or code == -getattr(signal, "SIGXCPU", 0):
        raise MeasuringFailed(
            "runtime_timeout",
            f"the network did not finish within {limits.wall_seconds:.0f} s, or did not get on for "
            f"{limits.silent_seconds:.0f} s. It hangs, or is far too slow for this device: raise "
            "the protocol's budget_seconds if it is meant to be.",
            tail,
        )
    if code == -getattr(signal, "SIGXFSZ", 0):
        raise MeasuringFailed(
            "device_unhealthy",
            f"the measuring process wrote a file of more than {limits.file_bytes / 1e6:.0f} MB: "
            "there is not enough room on this device for the network, or it fills the log.",
            tail,
        )
    if out_of_memory or any(
        sign in tail for sign in ("bad_alloc", "MemoryError", "Failed to allocate memory")
    ):
        raise MeasuringFailed(
            "device_oom",
            f"the network needs more than the {limits.memory_bytes / 1e9:.1f} GB of memory "
            "that are "
            "free on this device. Ask for a smaller batch or architecture.",
            tail,
        )
    how = f"by signal {-code}" if code < 0 else f"with status {code}"
    raise MeasuringFailed(
        "runtime_crash", f"the measuring process ended {how} while it ran the network.", tail
    )


def _tail(log: Path) -> str:
    """The end of the log: a hostile network may have filled it."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        return file.read(_LOG_BYTES).decode(errors="replace")


def _environment() -> Mapping[str, str]:
    """This process's environment without the service's settings and tokens."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("LATENCY_SERVICE_")
    }
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _kernel_kills(path: Path = Path("/proc/vmstat")) -> int:
    """Processes that the kernel has killed for want of memory since boot; 0 where it is not
    told.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
