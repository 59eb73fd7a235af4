"""The canaries' floors: the latency that every inflation is measured against, kept across
processes.

On the machine this was designed on, the 5th percentile of a canary's readings in one quiet process
of ten seconds differs between processes by .1-.3 % (standard deviation; memory layout), so a floor
is a fact of the target and not of a process: dividing by each process's own would let a process
that never saw a quiet moment call itself quiet.

- Each measuring process contributes one floor (a 5th percentile of its readings) for each canary.
- The target's floor is a low one of the last `KEPT` of them, never the very lowest: a single
  process cannot drag it down, and processes in contended times, which are the higher ones, do not
  lift it.
- A reference has a floor of the same kind, a higher one of fewer processes. A budget may be a share
  of it, so it must be neither luckier nor older than a pruned file's reading, which is typical of
  its hour.
  Three networks, 16 processes each, half of them beside a load: with the second lowest process as
  the floor the shares were 1.05 % higher at the median than plain alternation found (10th to 90th
  percentile -.2 to 1.9 %), with this one .3 % (-.9 to 1.1 %).
- When the last `CHANGE` processes all lie clear of it below, or above by the same factor for every
  canary and steadily (a clock, not a neighbour), then the machine has changed: the history before
  them is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from latency_service.agent.measuring.ipc import CanaryReadings
from latency_service.core.files import write_whole
from latency_service.measurements.schemas import Calibration

KEPT = 64
#: The same for a reference: those of about one job.
REFERENCE_KEPT = 24
CHANGE = 5
#: Share of the processes' floors that lie under the target's, and under a reference's.
LOW_SHARE = 0.2
REFERENCE_LOW_SHARE = 0.25
#: Readings that a process needs for its floor of the canaries to count, and for that of a
#: reference: of a slow network a measurement may have three rounds, and nobody else reads it.
LEAST_READINGS = 20
LEAST_REFERENCE_READINGS = 4
#: Relative: clear of the floor; equal factors of the canaries; readings of a process steady.
_CLEAR = 0.03
_ALIKE = 0.015
_STEADY = 0.01


class History(BaseModel):
    """CanaryReadings of the last processes on one target, oldest first."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    processes: list[CanaryReadings] = []

    def floor(self, low_share: float = LOW_SHARE) -> list[float] | None:
        """Floor of each network, ms; None before the first process.

        Args:
            low_share: share of the processes' floors that lie under it.
        """
        if not self.processes:
            return None
        columns = zip(*(process.floor_ms for process in self.processes), strict=True)
        place = max(min(1, len(self.processes) - 1), int(low_share * len(self.processes)))
        return [sorted(column)[place] for column in columns]

    @property
    def canaries(self) -> list[str]:
        """Names of what was read; none before the first process."""
        return self.processes[-1].canaries if self.processes else []

    def with_process(
        self, readings: CanaryReadings, *, least: int = LEAST_READINGS, most: int = KEPT
    ) -> History:
        """The history after one more process: of `most` processes at most, unchanged when it made
        less than `least` readings, new when it read other canaries.
        """
        if readings.count < least:
            return self
        kept = self.processes if self.canaries == readings.canaries else []
        processes = [*kept, readings][-most:]
        before = History(processes=processes[:-CHANGE]).floor()
        recent = processes[-CHANGE:]
        if before is not None and _changed(recent, before):
            processes = recent
        return History(processes=processes)


class CalibrationStore:
    """Histories of this device's targets, one file each, named by the fingerprint's digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def calibration(self, digest: str, reference: str | None = None) -> Calibration | None:
        """The floors of a target; None before its first calibration.

        Args:
            digest: of the target's fingerprint.
            reference: name of the reference network, if there is one.
        """
        history = self._history(digest)
        floor = history.floor()
        if floor is None:
            return None
        own = self._reference_floor(_joint(digest, reference)) if reference else None
        return Calibration(
            canaries=history.canaries,
            floor_ms=floor,
            reference_ms=own,
        )

    def add(self, digest: str, readings: CanaryReadings) -> None:
        """Keep what the canaries showed in one more process."""
        self._write(digest, self._history(digest).with_process(readings))

    def add_reference(self, digest: str, reference: str, readings: CanaryReadings) -> None:
        """Keep what a reference network showed in one more process."""
        name = _joint(digest, reference)
        history = self._history(name)
        self._write(
            name,
            history.with_process(readings, least=LEAST_REFERENCE_READINGS, most=REFERENCE_KEPT),
        )

    def _reference_floor(self, name: str) -> float | None:
        floor = self._history(name).floor(REFERENCE_LOW_SHARE)
        return None if floor is None else floor[0]

    def _write(self, name: str, history: History) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / f"{name}.json", history.model_dump_json().encode())

    def _history(self, name: str) -> History:
        try:
            history = History.model_validate_json((self._folder / f"{name}.json").read_bytes())
        except (
            FileNotFoundError,
            ValidationError,
        ):  # a damaged file costs a few seconds of calibrating
            return History()
        networks = len(history.canaries)
        fits = all(
            len(row) == networks
            for process in history.processes
            for row in (process.canaries, process.floor_ms, process.typical_ms)
        )
        return history if fits else History()


def _joint(digest: str, reference: str) -> str:
    return f"{digest}.{reference}"


def _changed(recent: Sequence[CanaryReadings], floor: Sequence[float]) -> bool:
    factors = [
        [own / old for own, old in zip(process.floor_ms, floor, strict=True)] for process in recent
    ]
    if all(max(row) < 1 - _CLEAR for row in factors):
        return True
    steady = all(
        typical <= own * (1 + _STEADY)
        for process in recent
        for own, typical in zip(process.floor_ms, process.typical_ms, strict=True)
    )
    return steady and all(
        min(row) > 1 + _CLEAR and max(row) / min(row) < 1 + _ALIKE for row in factors
    )
