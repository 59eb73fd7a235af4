"""A file's share of another's latency by long alternation, in a few fresh processes: a plain loop.

The loop shares nothing with the product's own measuring: no canaries, no correction, no selection
of rounds by either. Run it on a quiet machine.
"""

from __future__ import annotations

import json
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

#: Times of the two files in each block, s [blocks][2].
Blocks = list[list[float]]


class Pair(NamedTuple):
    """A file and the one that it is compared with."""

    file: Path
    other: Path


class AlternatedShare(NamedTuple):
    """Latency of a file divided by that of another."""

    #: Of all processes together.
    share: float
    #: Of single processes.
    lowest: float
    highest: float


def alternate(pair: Pair, seconds: float) -> AlternatedShare:
    """The share of a file in the latency of the other one, by `_PROCESSES` processes in turn.

    Args:
        seconds: of all processes together.
    """
    return _together([_process(pair, seconds / _PROCESSES) for _ in range(_PROCESSES)])


def _together(processes: list[Blocks]) -> AlternatedShare:
    single = [_quotient(blocks) for blocks in processes]
    every = [block for blocks in processes for block in blocks]
    return AlternatedShare(_quotient(every), min(single), max(single))


def _quotient(blocks: Blocks) -> float:
    """Quotient of the two files' times, each the lower quartile of its blocks: neighbours can only
    slow a file.
    """
    file, other = np.percentile(np.array(blocks), 25, axis=0)
    return float(file / other)


def _process(pair: Pair, seconds: float) -> Blocks:
    """Blocks of a fresh process."""
    command = [sys.executable, "-m", __name__, str(pair.file), str(pair.other), str(seconds)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    blocks: Blocks = json.loads(found.stdout)
    return blocks


def _blocks(file: Path, other: Path, seconds: float) -> Blocks:
    """Blocks of this process."""
    pair = [_session(path) for path in (file, other)]
    for session, feeds in pair:
        for _ in range(_WARM_UP_RUNS):
            session.run(None, feeds)
    end = time.perf_counter() + seconds
    blocks = []
    while time.perf_counter() < end:
        blocks.append(_block(pair))
    return blocks


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
    print(json.dumps(_blocks(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))))
