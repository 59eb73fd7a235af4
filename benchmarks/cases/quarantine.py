"""Share of the rounds disturbed by an injected load that were quarantined.

Architectures are measured as the agent does it while two busy processes per core start and stop at
random. A round is touched when it overlaps with a burst; rounds that only overlap with its start or
its end count for neither side. The same is measured without any load. How well the remaining rounds
repeat is the subject of `repeatability`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.support.harness import Outcome, at_least, at_most
from benchmarks.support.load import Burst, Load
from benchmarks.support.networks import wide_resnet20
from benchmarks.support.subjects import subjects
from latency_service.agent.measuring.profiler import LeaseResult, Profiler
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.correction import correct
from latency_service.measurements.schemas import Protocol

#: Protocol with as many rounds as the time allows: rounds are what is judged.
PROTOCOL = Protocol(min_rounds=60, max_rounds=60, budget_seconds=6.0)


class Judged(NamedTuple):
    """One round: its times by the monotonic clock, s, and its verdict."""

    began: float
    ended: float
    quarantined: bool
    #: Whether every canary was at its floor.
    quiet: bool
    #: Reason why its latency is worthless, if it is.
    disturbed: str | None


class Trial(NamedTuple):
    """Rounds without a load and beside one, and the bursts of the load."""

    idle: list[Judged]
    loaded: list[Judged]
    bursts: list[Burst]

    @property
    def touched(self) -> list[Judged]:
        spans = [(burst.began, burst.ended) for burst in self.bursts]
        return [one for one in self.loaded if _meets(one, spans)]

    @property
    def between(self) -> list[Judged]:
        spans = [(burst.asked, burst.gone) for burst in self.bursts]
        return [one for one in self.loaded if not _meets(one, spans)]

    @property
    def quiet(self) -> list[Judged]:
        return [one for one in self.idle if one.quiet]


def run(quick: bool) -> Outcome:
    """Eight batches of 8 architectures with and without load; quick: one batch of 3."""
    trial = _try(*((3, 1) if quick else (8, 8)))
    touched, between, quiet = trial.touched, trial.between, trial.quiet
    if not touched or not quiet:
        raise SystemExit(
            "No round was touched by the load, or none was quiet: this machine is never still."
        )
    return Outcome(
        bars=[
            at_least(
                "rounds touched by the load that were quarantined", _quarantined(touched), 95, "%"
            ),
            at_most("quiet rounds that were quarantined", _quarantined(quiet), 2, "%"),
        ],
        rows=[
            _row("touched by the load", touched),
            _row("between bursts", between),
            _row("no load at all", trial.idle),
            _row("no load, canaries at their floors", quiet),
        ],
        data={
            "bursts": len(trial.bursts),
            "idle": len(trial.idle),
            "touched": len(touched),
            "between": len(between),
        },
    )


def _try(count: int, batches: int) -> Trial:
    """Measure `count` architectures in `batches` with and without load, in turn."""
    space, widths = subjects(wide_resnet20, count)
    trial = Trial([], [], [])
    with tempfile.TemporaryDirectory() as folder:
        profiler = Profiler(Path(folder))
        profiler.batch(space.data, widths[:1], RuntimeConfig(), Protocol())  # calibrates
        for seed in range(batches):
            batch = partial(
                profiler.batch, space.data, widths, RuntimeConfig(), PROTOCOL, seed=seed
            )
            trial.idle.extend(judged(batch()))
            with Load(seed) as load:
                trial.loaded.extend(judged(batch()))
            trial.bursts.extend(load.bursts)
    return trial


def _quarantined(rounds: Sequence[Judged]) -> float:
    """Share of quarantined rounds, per cent."""
    return 100 * float(np.mean([one.quarantined for one in rounds]))


def judged(measured: LeaseResult) -> list[Judged]:
    """The rounds of one process in order of time; each ends where the next begins."""
    found: list[Judged] = []
    for result in measured.answer.results:
        verdicts = correct(result.rounds, measured.calibration)
        for one, quarantined, quiet in zip(
            result.rounds, verdicts.quarantined, verdicts.quiet, strict=True
        ):
            began = measured.answer.clock_seconds + one.at_seconds
            found.append(Judged(began, np.inf, bool(quarantined), bool(quiet), one.disturbed))
    found.sort(key=lambda one: one.began)
    return [one._replace(ended=following.began) for one, following in pairwise(found)]


def _meets(one: Judged, spans: Sequence[tuple[float, float]]) -> bool:
    return any(one.began < end and one.ended > begin for begin, end in spans)


def _row(name: str, rounds: Sequence[Judged]) -> dict[str, Any]:
    def share(chosen: Callable[[Judged], bool]) -> str:
        return f"{np.mean([chosen(one) for one in rounds]):.1%}" if rounds else "-"

    return {
        "rounds": name,
        "count": str(len(rounds)),
        "quarantined": share(lambda one: one.quarantined),
        "as worthless": share(lambda one: one.disturbed is not None),
        "canaries at floor": share(lambda one: one.quiet),
    }
