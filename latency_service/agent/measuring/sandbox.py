"""Runs a measuring process and turns every way in which it can end into an answer or a typed
failure.
"""

from __future__ import annotations

import contextlib
import os
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

from latency_service.agent.measuring.ipc import (
    FAILURE_FILE,
    GRAPH_FILE,
    REFERENCE_FILE,
    RESULT_FILE,
    TASK_FILE,
    ChildResult,
    MeasuringFailed,
    MeasuringTask,
)
from latency_service.jobs.schemas import Failure

_POLL_SECONDS = 0.05
_LOG_BYTES = 8000
#: For each task, and for each architecture on top of the protocol's budget: loading, materialising,
#: warming up.
_START_SECONDS = 60.0
_EACH_SECONDS = 15.0


class Cancelled(Exception):
    """The measurement was stopped because nobody wants it any more; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one measuring process may use."""

    wall_seconds: float
    cpu_seconds: int
    #: private memory of the process
    memory_bytes: int

    @classmethod
    def of(cls, task: MeasuringTask) -> Limits:
        """Generous limits for `task` on this machine: they stop what hangs or grows, not what is
        slow.
        """
        count = max(1, len(task.widths)) + (task.reference is not None)
        wall = (
            _START_SECONDS
            + task.calibrate_seconds
            + count * (task.protocol.budget_seconds + _EACH_SECONDS)
        )
        available = psutil.virtual_memory().available
        return cls(
            wall_seconds=wall,
            cpu_seconds=int(wall * task.runtime.intra_threads) + 1,
            memory_bytes=int(available * 0.8),
        )


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
        update={"memory_bytes": limits.memory_bytes, "cpu_seconds": limits.cpu_seconds}
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
                code = _wait(process, time.monotonic() + limits.wall_seconds, cancelled)
            finally:
                _kill(process)
        return _answer(folder, code, limits, out_of_memory=_kernel_kills() > kills)


def _wait(
    process: subprocess.Popen[bytes], deadline: float, cancelled: Callable[[], str | None]
) -> int | None:
    """The exit status, or nothing when the deadline has passed."""
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL_SECONDS)
        if reason := cancelled():
            raise Cancelled(reason)
    return None


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
            f"the network did not finish within {limits.wall_seconds:.0f} s. It hangs, or is far "
            "too slow for this device: raise the protocol's budget_seconds if it is meant to be.",
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
    data = log.read_bytes() if log.exists() else b""
    return data[-_LOG_BYTES:].decode(errors="replace")


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
