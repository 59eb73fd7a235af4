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
#: Standard deviations at either end of a 95 % interval.
DEVIATIONS = 1.96
#: Duration of one reading, seconds.
READING_SECONDS = 12.0
#: Relative standard deviation of a reading that nothing disturbs.
QUIET = 0.002
#: Relative standard deviation of a fine-tuned file's latency around its structure's.
TRAINED = 0.01


@dataclass(frozen=True, kw_only=True)
class SimulatedReading:
    """One measurement of one file on one target, in ms."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    seconds: float


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
    #: Largest half width of a reading's 95 % interval, relative.
    noise: float
    #: Share of the readings that are disturbed.
    disturbed_share: float
    #: Half width of the predictor's interval, relative.
    half_width: float
    budget_share: float

    @property
    def full(self) -> list[int]:
        return [choices[-1] for choices in self.lattice]

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
    seconds: float
    slack: float
    #: Whether the budget is a share of the dense latency as measured, not a number of ms.
    is_share: bool

    @cached_property
    def machine(self) -> SimulatedMachine:
        return SimulatedMachine(self)


class SimulatedMachine:
    """Measures on the targets of one job."""

    def __init__(self, job: SimulatedJob) -> None:
        self._job = job
        self._rng = np.random.default_rng([job.seed, 1])
        self._trained: dict[tuple[int, tuple[int, ...]], float] = {}

    def true_ms(self, index: int, widths: Sequence[int], *, is_trained: bool) -> float:
        """True latency of a file on a target."""
        latency_ms = self._job.targets[index].true_ms(widths)
        if not is_trained:
            return latency_ms
        key = index, tuple(widths)
        if key not in self._trained:
            self._trained[key] = float(np.exp(TRAINED * self._rng.normal()))
        return latency_ms * self._trained[key]

    def measure(self, widths: Sequence[int], *, is_trained: bool) -> list[SimulatedReading]:
        """One reading for each target."""
        return [
            self._measure(index, self.true_ms(index, widths, is_trained=is_trained))
            for index in range(len(self._job.targets))
        ]

    def _measure(self, index: int, true_ms: float) -> SimulatedReading:
        """A reading whose interval is right on average, and itself a little uncertain."""
        target = self._job.targets[index]
        deviation = QUIET
        if self._rng.random() < target.disturbed_share:
            deviation = max(QUIET, target.noise / DEVIATIONS * float(self._rng.uniform(0.2, 1)))
        latency_ms = true_ms * float(np.exp(deviation * self._rng.normal()))
        half = DEVIATIONS * deviation * float(np.exp(0.15 * self._rng.normal()))
        return SimulatedReading(
            latency_ms=latency_ms,
            lower_ms=latency_ms * float(np.exp(-half)),
            upper_ms=latency_ms * float(np.exp(half)),
            seconds=READING_SECONDS,
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
        rounds=int(rng.choice([2, 2, 2, 1, 4, 0])),
        late_rounds=int(rng.choice([5, 5, 5, 2, 0])),
        seconds=float(rng.choice([600, 600, 300, 120])),
        slack=float(rng.choice([0.01, 0.005, 0.03])),
        is_share=bool(rng.random() < 0.5),
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
        noise=float(rng.choice([0.01, 0.03, 0.1])),
        disturbed_share=float(rng.choice([0.0, 0.3, 0.8, 1.0])),
        half_width=float(rng.choice([0.02, 0.05, 0.15])),
        budget_share=float(share * rng.uniform(0.9, 1.1)),
    )
