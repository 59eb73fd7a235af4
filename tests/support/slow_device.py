"""A device that is a number of times slower than this machine: its clock runs so much faster."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latency_service.agent.measuring import child
from latency_service.agent.measuring.ipc import (
    GRAPH_FILE,
    REFERENCE_FILE,
    ChildResult,
    MeasuringTask,
)


def fast_clock(slowness: float) -> Callable[[], int]:
    """A clock in ns that shows every duration `slowness` times as long."""
    return lambda: int(time.perf_counter_ns() * slowness)


@dataclass(kw_only=True)
class SlowDevice:
    """Stands for the sandbox: measures in this process, by the device's own clock."""

    slowness: float
    tasks: list[MeasuringTask] = field(default_factory=list)
    answers: list[ChildResult] = field(default_factory=list)

    def __call__(
        self, task: MeasuringTask, graph: bytes | None, *, reference: bytes | None = None, **_: Any
    ) -> ChildResult:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, data in ((GRAPH_FILE, graph), (REFERENCE_FILE, reference)):
                if data is not None:
                    (folder / file).write_bytes(data)
            answer = child.measure(task, folder, [0], clock_ns=fast_clock(self.slowness))
        self.tasks.append(task)
        self.answers.append(answer)
        return answer
