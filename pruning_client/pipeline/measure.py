"""Files measured on a target."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from latency_service.core.client import Client
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import JobView
from latency_service.measurements.schemas import Protocol
from latency_service.verifications.schemas import VerifyRequest
from pruning_client.errors import MeasurementFailed
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from pruning_client.pipeline.verify import Verify
from pruning_client.reports.schema import Stage, Verification

#: Protocol of a verification: longer than a campaign's, because one file decides.
PROTOCOL = Protocol(min_rounds=15, max_rounds=200, budget_seconds=12.0)
#: Maximum number of measurements of one file while they are unstable.
_ATTEMPTS = 2
#: Number of measurements that repeats of unstable ones leave for other files.
_RESERVED = 3
#: Lowest relative width of an interval when measurements are pooled.
_NARROWEST = 1e-4


@dataclass(frozen=True, kw_only=True)
class FileMeasurement:
    """One file measured on one target. Latencies in ms, 95 % interval."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    measurement_id: str
    target_id: str
    model_sha256: str
    #: Number of measurements made, including repeats of unstable ones.
    taken: int = 1

    @property
    def is_stable(self) -> bool:
        return self.verdict == "ok"

    @property
    def relative_width(self) -> float:
        """Width of the interval as a share of the latency."""
        return (self.upper_ms - self.lower_ms) / self.latency_ms


#: One file on every target of a job, in the order of the targets.
FileMeasurements = tuple[FileMeasurement, ...]


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Measures files on one target."""

    client: Client
    device: str
    runtime: RuntimeConfig
    space_id: str
    config: Verify
    progress: Progress = silent
    sleep: Callable[[float], None] = time.sleep

    def measure(
        self, data: bytes, widths: Sequence[int], *, phase: str, left: int = _ATTEMPTS + _RESERVED
    ) -> FileMeasurement:
        """Upload this very file and measure it; repeat an unstable measurement once after a pause.

        Of two unstable measurements the one with the narrower interval is returned.

        Args:
            left: number of measurements left to this job, including this one.

        Raises:
            MeasurementFailed: the agent gave up, with its reason.
            Timeout: no agent took the measurement in time.
        """
        found: list[FileMeasurement] = []
        for attempt in range(max(1, min(_ATTEMPTS, left - _RESERVED))):
            if attempt:
                self._pause(phase, attempt)
            self._report(phase, attempt, attempt + 1)
            found.append(self._measure_once(data, widths))
            if found[-1].is_stable:
                break
        self._report(phase, len(found), len(found))
        best = min(found, key=lambda m: (not m.is_stable, m.relative_width))
        return replace(best, taken=len(found))

    def _pause(self, phase: str, attempt: int) -> None:
        seconds = self.config.pause_seconds
        waiting = f"{phase}: {self.device} is disturbed, again in {seconds:.0f} s"
        self._report(waiting, attempt, attempt + 1)
        self.sleep(seconds)

    def _report(self, phase: str, done: int, total: int) -> None:
        self.progress(ProgressEvent(phase=phase, done=done, total=total, unit="measurements"))

    def _measure_once(self, data: bytes, widths: Sequence[int]) -> FileMeasurement:
        job = self._finished_job(self.client.upload_model(data), widths)
        if job.state != "done" or not job.result:
            raise self._failure(job)
        measurement = self.client.measurement(str(job.result["measurement_ids"][0]))
        summary = measurement.summary
        return FileMeasurement(
            latency_ms=summary.latency_ms,
            lower_ms=summary.lower_ms,
            upper_ms=summary.upper_ms,
            verdict=summary.verdict,
            measurement_id=measurement.id,
            target_id=measurement.target_id,
            model_sha256=hashlib.sha256(data).hexdigest(),
        )

    def _finished_job(self, model_sha256: str, widths: Sequence[int]) -> JobView:
        request = VerifyRequest(
            device=self.device,
            model_sha256=model_sha256,
            space_id=self.space_id,
            widths=list(widths),
            runtime=self.runtime,
            protocol=PROTOCOL,
        )
        job = self.client.create_verification(request)
        return self.client.wait_for_job(job.id, timeout_seconds=self.config.timeout_seconds)

    def _failure(self, job: JobView) -> MeasurementFailed:
        reason = job.failure.message if job.failure else f"the job is {job.state}"
        return MeasurementFailed(
            f"The device {self.device!r} could not measure the network: {reason}.",
            f"See `latency-service devices show {self.device}` and the agent's log.",
        )


def pooled(first: FileMeasurement, second: FileMeasurement) -> FileMeasurement:
    """Two measurements of one file as one: their geometric mean.

    Weights are the inverse squares of the relative widths of the intervals. An unstable measurement
    counts only where both are unstable.
    """
    taken = first.taken + second.taken
    if first.verdict != second.verdict:
        return replace(first if first.is_stable else second, taken=taken)
    weights = [1 / max(_NARROWEST, m.relative_width) ** 2 for m in (first, second)]
    latency_ms = _weighted_mean(first, second, weights[0] / sum(weights))
    half_width = _pooled_half_width(first, second, sum(weights))
    return replace(
        second,
        latency_ms=latency_ms,
        lower_ms=latency_ms * math.exp(-half_width),
        upper_ms=latency_ms * math.exp(half_width),
        taken=taken,
    )


def _weighted_mean(first: FileMeasurement, second: FileMeasurement, share: float) -> float:
    logarithm = share * math.log(first.latency_ms) + (1 - share) * math.log(second.latency_ms)
    return math.exp(logarithm)


def _pooled_half_width(first: FileMeasurement, second: FileMeasurement, weight: float) -> float:
    """Half width in logarithms: half the difference of both where that is more than their own."""
    difference = abs(math.log(first.latency_ms / second.latency_ms))
    own = math.sqrt(max(1 / weight, 1e-12))
    return max(difference, own) / 2


def verification(
    stage: Stage,
    widths: Sequence[int],
    predicted_ms: float | None,
    measured: FileMeasurement,
    device: str = "",
) -> Verification:
    """A measurement as the report shows it."""
    return Verification(
        stage=stage,
        widths=list(widths),
        predicted_ms=predicted_ms,
        latency_ms=measured.latency_ms,
        lower_ms=measured.lower_ms,
        upper_ms=measured.upper_ms,
        verdict=measured.verdict,
        measurement_id=measured.measurement_id,
        model_sha256=measured.model_sha256,
        device=device,
    )
