"""Made-up targets for the closed loop: a prediction, a truth that differs from it, and noise.

Numbers only: everything follows from the seed, and nothing of the product is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Measurements that repeats of unstable ones leave for later, as in the product.
RESERVED = 3


@dataclass(frozen=True, kw_only=True)
class SimulatedReading:
    """One measurement of one file on one target, in ms."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    taken: int


@dataclass(frozen=True, kw_only=True)
class SimulatedTarget:
    """Latency by a formula; predictions differ by slopes and waves over the widths."""

    lattice: list[list[int]]
    base_ms: float
    linear_ms: Floats
    pair_ms: float
    offset: float
    slopes: Floats
    waves: Floats
    noise: float
    unstable_share: float
    #: Half width of the predictor's interval, relative.
    half_width: float
    budget_share: float

    @property
    def full(self) -> list[int]:
        return [choices[-1] for choices in self.lattice]

    @property
    def budget_ms(self) -> float:
        return self.budget_share * float(self.predicted_ms(np.array([self.full], np.float64))[0])

    def predicted_ms(self, widths: Floats) -> Floats:
        """Predicted latency [B] of `widths` [B, G]."""
        steps = 4 * np.ceil(widths / 4)
        straight = (steps * self.linear_ms).sum(axis=1)
        pairs = (steps[:, :-1] * steps[:, 1:]).sum(axis=1)
        found: Floats = self.base_ms + straight + self.pair_ms * pairs
        return found

    def true_ms(self, widths: Sequence[int]) -> float:
        """Latency that a perfect measurement would find."""
        at = np.asarray(widths, np.float64)
        bend = (self.slopes * (at / self.full - 0.5) + self.waves * np.sin(at / 6)).sum()
        return float(self.predicted_ms(at[None])[0] * np.exp(self.offset + bend))


@dataclass(frozen=True, kw_only=True)
class SimulatedJob:
    """A job's targets, and what the closed loop may do."""

    seed: int
    targets: list[SimulatedTarget]
    scores: list[Floats]
    initial: list[int]
    rounds: int
    late_rounds: int
    measurements: int
    margin: float
    slack: float

    @cached_property
    def machine(self) -> SimulatedMachine:
        return SimulatedMachine(self)


class SimulatedMachine:
    """Measures on the targets of one job and counts the measurements."""

    def __init__(self, job: SimulatedJob) -> None:
        self._job = job
        self._rng = np.random.default_rng([job.seed, 1])
        # the dense network has been measured
        self._taken = [1] * len(job.targets)

    @property
    def left(self) -> int:
        return self._job.measurements - max(self._taken)

    def measure(self, widths: Sequence[int]) -> list[SimulatedReading]:
        """One reading for each target."""
        return [self._measure(index, widths) for index in range(len(self._taken))]

    def _measure(self, index: int, widths: Sequence[int]) -> SimulatedReading:
        target = self._job.targets[index]
        draws = self._rng.normal(size=2)
        is_unstable = self._rng.random() < target.unstable_share
        noise = target.noise * (8 if is_unstable else 1)
        latency_ms = target.true_ms(widths) * float(np.exp(noise * draws[0]))
        half = noise * (1 + 0.2 * abs(float(draws[1]))) + 1e-4
        taken = 2 if is_unstable and self.left - RESERVED >= 2 else 1
        self._taken[index] += taken
        return SimulatedReading(
            latency_ms=latency_ms,
            lower_ms=latency_ms * float(np.exp(-half)),
            upper_ms=latency_ms * float(np.exp(half)),
            verdict="unstable" if is_unstable else "ok",
            taken=taken,
        )


def simulated_job(seed: int) -> SimulatedJob:
    """A job of one to three targets; everything about it is drawn from the seed."""
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(2, 5))
    full = [int(width) for width in rng.choice([16, 32, 64], groups)]
    several = int(rng.choice([1, 1, 2, 3]))
    share = float(rng.choice([0.3, 0.5, 0.7, 0.9, 0.97]))
    return SimulatedJob(
        seed=seed,
        targets=[_target(rng, full, share) for _ in range(several)],
        scores=[rng.random(width) + 0.1 for width in full],
        initial=[int(4 * rng.integers(1, width // 4 + 1)) for width in full],
        rounds=int(rng.choice([3, 3, 3, 1, 5, 0])),
        late_rounds=int(rng.choice([3, 3, 1, 0])),
        measurements=int(rng.choice([10, 10, 10, 4, 6, 20])),
        margin=float(rng.choice([0.008, 0.0, 0.02])),
        slack=float(rng.choice([0.015, 0.008, 0.05])),
    )


def _target(rng: np.random.Generator, full: list[int], share: float) -> SimulatedTarget:
    step = int(rng.choice([2, 4, 4]))
    groups = len(full)
    return SimulatedTarget(
        lattice=[list(range(4, width + 1, step)) for width in full],
        base_ms=float(rng.uniform(0.05, 0.3)),
        linear_ms=rng.uniform(0.002, 0.012, groups),
        pair_ms=float(rng.uniform(0, 2e-4)),
        offset=float(0.08 * rng.normal()),
        slopes=0.08 * rng.normal(size=groups),
        waves=0.03 * rng.normal(size=groups),
        noise=float(rng.choice([0.0005, 0.003, 0.01])),
        unstable_share=float(rng.choice([0.0, 0.2, 0.6])),
        half_width=float(rng.choice([0.02, 0.05, 0.15])),
        budget_share=float(share * rng.uniform(0.9, 1.1)),
    )
