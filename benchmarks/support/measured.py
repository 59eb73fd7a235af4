"""Measurements of real spaces on this machine with the project's own profiler, kept between runs.

They are kept under ``runs/benchmarks``, by target: a stopped run resumes, and benchmarks that need
the same architectures share them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from benchmarks.support.predictors import RUNS
from latency_service.agent.fingerprint import fingerprint
from latency_service.agent.measuring.profiler import Profiler
from latency_service.devices.schemas import RuntimeConfig
from latency_service.lattices.sampling import sample
from latency_service.measurements.schemas import Protocol
from latency_service.measurements.statistics import summarise
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.pipeline import KnownTarget, TrainingSet
from pruning_client.graph.space import make_space

Floats = npt.NDArray[np.float64]
Widths = npt.NDArray[np.int64]
Built = Callable[[], tuple[torch.nn.Module, torch.Tensor]]

#: Number of architectures in one measuring process: interleaved, and kept when it ends.
BATCH = 20
#: Step of the widths: the lattice of the processors that this has run on.
STEP = 4
#: Minimum share of the requested architectures that has to be measured well.
LEAST_GOOD = 0.8


class Predicted(NamedTuple):
    """Outputs of a predictor's file, ms [B], and the gradient [B, G]."""

    latency_ms: Floats
    gradient: Floats
    lower_ms: Floats
    upper_ms: Floats


def predict(artifact: bytes, widths: npt.NDArray[np.number]) -> Predicted:
    """Outputs of a predictor's file for `widths` [B, G]."""
    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    found = session.run(list(Predicted._fields), {"widths": widths.astype(np.float32)})
    return Predicted(*(np.asarray(part, dtype=np.float64) for part in found))


def space_of(name: str, built: Built) -> SearchSpace:
    """The search space of a network, the same in each call."""
    torch.manual_seed(0)
    model, example = built()
    return SearchSpace.from_bytes(make_space(model.eval(), example, name=name).space.data)


def lattice_of(space: SearchSpace) -> list[list[int]]:
    """Multiples of STEP and the full width of each group [G][...]."""
    return [
        [
            width
            for width in range(group.minimum, group.width + 1)
            if width % STEP == 0 or width == group.width
        ]
        for group in space.groups
    ]


def architectures(space: SearchSpace, count: int, seed: int = 0) -> Widths:
    """Architectures [count, G] on the lattice in random order: any part covers the range."""
    widths = np.array(sample(space, lattice_of(space), count, seed))
    return widths[np.random.default_rng(seed).permutation(len(widths))]


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Measurements of the requested architectures, in their order."""

    space: SearchSpace
    target: str
    #: Widths [N, G], latency in ms [N], relative half-width of the 95 % interval [N].
    widths: Widths
    latency_ms: Floats
    half_width: Floats

    def first(self, count: int) -> Measurements:
        """The first `count`."""
        return self.at(np.arange(min(count, len(self.widths))))

    def at(self, rows: npt.NDArray[np.int64]) -> Measurements:
        return Measurements(
            space=self.space,
            target=self.target,
            widths=self.widths[rows],
            latency_ms=self.latency_ms[rows],
            half_width=self.half_width[rows],
        )

    def training_set(self, seed: int = 0) -> TrainingSet:
        return TrainingSet(
            space=self.space,
            fingerprint=self.target,
            measurement_ids=[str(i) for i in range(len(self.widths))],
            widths=self.widths,
            latency_ms=self.latency_ms,
            half_width=self.half_width,
            lattice=lattice_of(self.space),
            seed=seed,
        )

    def known(self) -> KnownTarget:
        return KnownTarget(widths=self.widths, latency_ms=self.latency_ms)


class Store:
    """Measurements of one space on one target of this machine, made where they are missing."""

    def __init__(
        self, space: SearchSpace, runtime: RuntimeConfig, protocol: Protocol, *, folder: Path = RUNS
    ) -> None:
        target = fingerprint(runtime).digest
        self.space = space
        self.runtime = runtime
        self.protocol = protocol
        self.target = target
        home = folder / target[:12] / "measured"
        home.mkdir(parents=True, exist_ok=True)
        self._path = home / f"{space.manifest.name}-{space.id[:8]}.jsonl"
        self._profiler = Profiler(home / "profiler")
        self._found: dict[tuple[int, ...], list[dict[str, Any]]] = {}
        for line in self._path.read_text().splitlines() if self._path.exists() else []:
            self._keep(json.loads(line))

    def measure(self, widths: Widths, *, repeat: int = 0) -> Measurements:
        """The `repeat`-th measurement of each of `widths` [N, G] that was measured well.

        Raises:
            RuntimeError: too few were.
        """
        missing = [row for row in widths.tolist() if len(self._found.get(tuple(row), [])) <= repeat]
        for first in range(0, len(missing), BATCH):
            print(
                f"  {self.space.manifest.name} {self.runtime.key}: {first}/{len(missing)} to "
                "measure",
                flush=True,
            )
            self._measure(missing[first : first + BATCH])
        found = [
            (row, self._found.get(tuple(row), [])[repeat : repeat + 1]) for row in widths.tolist()
        ]
        good = [(row, kept[0]) for row, kept in found if kept]
        if len(good) < LEAST_GOOD * len(widths):
            raise RuntimeError(
                f"{len(good)} of {len(widths)} architectures could be measured on "
                f"{self.runtime.key}: the machine is "
                "too busy; run the benchmark again when it is not, what is measured is kept"
            )
        return Measurements(
            space=self.space,
            target=self.target,
            widths=np.array([row for row, _ in good]),
            latency_ms=np.array([found["latency_ms"] for _, found in good]),
            half_width=np.array([found["half_width"] for _, found in good]),
        )

    def _measure(self, batch: list[list[int]]) -> None:
        measured = self._profiler.batch(self.space.data, batch, self.runtime, self.protocol)
        with self._path.open("a") as file:
            for row, result in zip(batch, measured.answer.results, strict=True):
                summary = summarise(result.rounds, measured.calibration, self.protocol)
                found = {
                    "widths": row,
                    "latency_ms": summary.latency_ms,
                    "verdict": summary.verdict,
                    "half_width": (summary.upper_ms - summary.lower_ms) / (2 * summary.latency_ms),
                }
                self._keep(found)
                file.write(json.dumps(found) + "\n")

    def _keep(self, found: dict[str, Any]) -> None:
        """Use a measurement if it is good; others are made again when they are needed."""
        if found["verdict"] == "ok":
            self._found.setdefault(tuple(found["widths"]), []).append(found)


def repeat_difference(store: Store, widths: Widths) -> float:
    """Median relative difference of two measurements of each of `widths` [N, G], per cent."""
    by_widths = [
        {
            tuple(row): value
            for row, value in zip(found.widths.tolist(), found.latency_ms, strict=True)
        }
        for found in (store.measure(widths), store.measure(widths, repeat=1))
    ]
    pairs = np.array(
        [[by_widths[0][row], by_widths[1][row]] for row in by_widths[0] if row in by_widths[1]]
    )
    return 100 * float(np.median(pairs.max(1) / pairs.min(1) - 1))
