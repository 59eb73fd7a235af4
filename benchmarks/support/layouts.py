"""How much a network's latency changes with where ONNX Runtime puts its tensors.

The same file in sessions with ONNX Runtime's defaults (two of them), without memory patterns and
without the arena, alternated in one process by the plain loop of `alternation`; several processes.
What differs between these sessions is the memory layout: operators, weights and results are equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.support.alternation import blocks, opened

#: Settings of the sessions. The first is what all others are compared with; the second is equal to
#: it and shows what is left when nothing differs.
SESSIONS: dict[str, dict[str, bool]] = {
    "default": {},
    "default again": {},
    "no memory patterns": {"enable_mem_pattern": False},
    "no arena": {"enable_cpu_mem_arena": False},
}
PROCESSES = 3

Floats = npt.NDArray[np.float64]


class Scatter(NamedTuple):
    """Change of latency from the default session to another one, per cent."""

    #: Median over the files.
    level: float
    #: Standard deviation over the files of each one's mean over the processes.
    files: float
    #: Standard deviation of the same file's changes over the processes, pooled.
    processes: float

    @property
    def lasting(self) -> float:
        """Standard deviation over the files of what is the same in every process."""
        return float(np.sqrt(max(0.0, self.files**2 - self.processes**2 / PROCESSES)))


def scatters(files: Sequence[Path], seconds: float) -> dict[str, Scatter]:
    """The scatter of each session but the first, by its name.

    Args:
        seconds: for each file in each of the processes.
    """
    logs = np.log([_process(files, seconds) for _ in range(PROCESSES)])
    changes = 100 * (logs[:, :, 1:] - logs[:, :, :1])
    return {name: _scatter(changes[:, :, k]) for k, name in enumerate(list(SESSIONS)[1:])}


def _scatter(changes: Floats) -> Scatter:
    """Of changes [processes, files]."""
    return Scatter(
        level=float(np.median(changes)),
        files=float(changes.mean(axis=0).std(ddof=1)),
        processes=float(np.sqrt(changes.var(axis=0, ddof=1).mean())),
    )


def _process(files: Sequence[Path], seconds: float) -> list[list[float]]:
    """Latencies [files][sessions] of a fresh process, s."""
    command = [sys.executable, "-m", __name__, str(seconds), *map(str, files)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    latencies: list[list[float]] = json.loads(found.stdout)
    return latencies


def _latencies(file: Path, seconds: float) -> list[float]:
    """The lower quartile of each session's blocks, s: neighbours can only slow a file."""
    sessions = [opened(file, **settings) for settings in SESSIONS.values()]
    found: list[float] = np.percentile(blocks(sessions, seconds), 25, axis=0).tolist()
    return found


if __name__ == "__main__":
    print(json.dumps([_latencies(Path(name), float(sys.argv[1])) for name in sys.argv[2:]]))
