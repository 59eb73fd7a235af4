"""Threads that all sessions of the measuring process share.

ONNX Runtime's threads wait for the next run by spinning, for tens of milliseconds. Those of another
session would take the cores of what is measured next, and without spinning two threads take up to
twice as long as in a user's session: a ResNet-20 of .22 ms was read as .37 to .38 ms, within 7 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from latency_service.agent.measuring.pinning import keep_on
from latency_service.devices.schemas import RuntimeConfig

#: Whether this ONNX Runtime lets sessions share threads.
IS_POSSIBLE = hasattr(ort, "set_global_thread_pool_sizes")
_OWN = Path("/proc/self/task")
_PROVIDER = "CPUExecutionProvider"
#: Number of threads that the sessions of this process share.
_shared: int | None = None


def share(runtime: RuntimeConfig, cores: Sequence[int]) -> None:
    """Let the sessions that this process opens for `runtime` from now on share their threads, each
    on a core of its own; once in a process. One thread needs nothing of the kind, and other
    providers than the processor's have threads of their own.

    Args:
        cores: that the process may use.
    """
    global _shared
    count = runtime.intra_threads
    if count == 1 or runtime.provider != _PROVIDER or not IS_POSSIBLE:
        return
    before = _threads()
    ort.set_global_thread_pool_sizes(count, 1)
    _shared = count
    if len(cores) >= count:
        keep_on(cores[:1])
        for thread, core in zip(sorted(_threads() - before), cores[1:], strict=False):
            keep_on([core], thread)


def shared() -> int | None:
    """Number of threads that sessions share, if they do."""
    return _shared


def _threads() -> set[int]:
    """Numbers of this process's threads, where the system tells them."""
    return {int(entry.name) for entry in _OWN.iterdir()} if _OWN.exists() else set()
