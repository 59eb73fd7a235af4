"""A file's share of another's latency by long alternation, in a few fresh processes: a plain loop.

Processes differ (memory layout), a ResNet-56 by up to 3 %. The loop shares nothing with the
product's own measuring: no canaries, no correction, no selection of rounds by either. Run it on a
quiet machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

#: Length of a block, s. In each the 5th percentile of the runs of each file counts: the fastest of
#: hundreds is luck, and neighbours slow the median of a network that its memory limits (that of a
#: half-width VGG-11 by 40 % in one hour, that of its half by 2 %).
_BLOCK_SECONDS = 1.0
#: Time that each file runs before the other's turn, s. Single runs in turn would find each other's
#: weights in the cache: a ResNet-20 at half its widths is then 1.6 % slower.
_TURN_SECONDS = 0.006
_WARM_UP_RUNS = 20
_PROCESSES = 4


class AlternatedShare(NamedTuple):
    """Latency of a file divided by that of another."""

    #: Median of the processes.
    median: float
    lowest: float
    highest: float


def share(file: Path, other: Path, seconds: float) -> AlternatedShare:
    """The share of `file` in the latency of `other`, by `_PROCESSES` processes.

    Args:
        seconds: of all processes together.
    """
    command = [sys.executable, "-m", __name__, str(file), str(other), str(seconds / _PROCESSES)]
    answers = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for _ in range(_PROCESSES)
    ]
    shares = [float(answer) for answer in answers]
    return AlternatedShare(statistics.median(shares), min(shares), max(shares))


def _share(file: Path, other: Path, seconds: float) -> float:
    """The same in this process: the median over the blocks of `seconds`."""
    pair = [_session(path) for path in (file, other)]
    for session, feeds in pair:
        for _ in range(_WARM_UP_RUNS):
            session.run(None, feeds)
    ratios = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        low = _block(pair)
        ratios.append(low[0] / low[1])
    return statistics.median(ratios)


def _block(pair: list[tuple[Any, Mapping[str, Any]]]) -> list[float]:
    """The 5th percentile of each one's runs in one block, s."""
    runs: list[list[float]] = [[] for _ in pair]
    end = time.perf_counter() + _BLOCK_SECONDS
    while time.perf_counter() < end:
        for place, one in enumerate(pair):
            runs[place] += _turn(*one)
    return [float(np.percentile(times, 5)) for times in runs]


def _turn(session: Any, feeds: Mapping[str, Any]) -> list[float]:
    """The runs of one turn, s."""
    times = []
    end = time.perf_counter() + _TURN_SECONDS
    while (begin := time.perf_counter()) < end:
        session.run(None, feeds)
        times.append(time.perf_counter() - begin)
    return times


def _session(path: Path) -> tuple[Any, Mapping[str, Any]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {
        entry.name: random.standard_normal(
            [size if isinstance(size, int) else 1 for size in entry.shape]
        ).astype(np.float32)
        for entry in session.get_inputs()
    }
    return session, feeds


if __name__ == "__main__":
    print(_share(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
