"""The delivered files of all methods, measured in turn on one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pruning_client.latency.predictor import Widths
from pruning_client.latency.readings import FileKey, FileMeasurement
from pruning_client.pipeline.contest.equality import EqualLatency
from pruning_client.pipeline.decision import outcome_of
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.reports.schema import Outcome

_PHASE = "measure the files of all methods"


@dataclass(frozen=True, kw_only=True)
class MeasuredFile:
    """A file and everything that was measured of it and of the dense network."""

    data: bytes
    widths: Widths
    goal: Goal

    @property
    def key(self) -> FileKey:
        return FileKey("delivered", self.widths)

    @property
    def measurement(self) -> FileMeasurement:
        """All readings as one."""
        return self.goal.evidence.of(self.key)

    @property
    def probability(self) -> float:
        """Probability that the file keeps the budget."""
        return self.goal.evidence.excess(self.key).probability

    def outcome(self, confidence: float) -> Outcome:
        """What the evidence says of the file."""
        return outcome_of(self.probability, confidence)

    def after(self, key: FileKey, reading: FileMeasurement) -> MeasuredFile:
        """The same after one more reading."""
        evidence = self.goal.evidence.added(key, reading)
        return replace(self, goal=replace(self.goal, evidence=evidence))


def measure_in_turn(
    job: PruningJob, files: Mapping[str, MeasuredFile], config: EqualLatency
) -> dict[str, MeasuredFile]:
    """Measure the dense network and one file after the other, then all of them again.

    A slow drift of the device thereby reaches all files alike; every measurement also reads the
    dense network in each of its rounds, and is corrected by it.

    Raises:
        MeasurementFailed: the device could not measure one of them.
    """
    found = dict(files)
    confidence = job.settings.verify.confidence
    for turn in range(config.most_readings):
        if turn >= config.readings and all(
            file.outcome(confidence) != "not decided" for file in found.values()
        ):
            break
        found = _one_turn(job, found)
    return found


def _one_turn(job: PruningJob, files: Mapping[str, MeasuredFile]) -> dict[str, MeasuredFile]:
    (dense,) = job.measure_dense()
    measured = {}
    for label, file in files.items():
        (reading,) = job.measure(file.data, file.widths, _PHASE)
        measured[label] = file.after(file.goal.evidence.dense_key, dense).after(file.key, reading)
    return measured
