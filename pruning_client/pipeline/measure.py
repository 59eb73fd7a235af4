"""Proof by measurement: whole files timed on a target."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from latency_service.core.client import Client
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol
from latency_service.verifications.schemas import VerifyRequest
from pruning_client.errors import MeasurementFailed
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from pruning_client.pipeline.verify import Verify
from pruning_client.reports.schema import Stage, Verification

#: More patient than a campaign's: one file decides.
PROTOCOL = Protocol(min_rounds=15, max_rounds=200, budget_seconds=12.0)
#: Measurements of one file when its interval does not get narrow enough.
_TRIES = 2
#: Measurements that repeats of unstable ones leave for what is still to be measured.
_RESERVED = 3


@dataclass(frozen=True, kw_only=True)
class FileMeasurement:
    """One file on the target. Latencies in ms, 95 % interval."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    measurement_id: str
    target_id: str
    model_sha256: str
    #: measurements that it took, repeats of unstable ones among them
    taken: int = 1


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

    def measure(
        self, data: bytes, widths: Sequence[int], *, phase: str, left: int = _TRIES + _RESERVED
    ) -> FileMeasurement:
        """Upload this very file and time it; an unstable measurement is repeated once, after a
        pause.

        Of two unstable ones the one with the narrower interval is taken.

        Args:
            left: measurements that may still be made in this job, this one among them.

        Raises:
            MeasurementFailed: the agent gave up, with its reason.
            Timeout: no agent took it in time.
        """
        tries: list[FileMeasurement] = []
        for number in range(max(1, min(_TRIES, left - _RESERVED))):
            if tries:
                waiting = (
                    f"{phase}: {self.device} is disturbed, again in "
                    f"{self.config.pause_seconds:.0f} s"
                )
                self.progress(
                    ProgressEvent(phase=waiting, done=number, total=number + 1, unit="measurements")
                )
                time.sleep(self.config.pause_seconds)
            self.progress(
                ProgressEvent(phase=phase, done=number, total=number + 1, unit="measurements")
            )
            tries.append(self._once(data, widths))
            if tries[-1].verdict == "ok":
                break
        self.progress(
            ProgressEvent(phase=phase, done=len(tries), total=len(tries), unit="measurements")
        )
        best = min(
            tries, key=lambda m: (m.verdict != "ok", (m.upper_ms - m.lower_ms) / m.latency_ms)
        )
        return replace(best, taken=len(tries))

    def _once(self, data: bytes, widths: Sequence[int]) -> FileMeasurement:
        client = self.client
        digest = self.client.upload_model(data)
        request = VerifyRequest(
            device=self.device,
            model_sha256=digest,
            space_id=self.space_id,
            widths=list(widths),
            runtime=self.runtime,
            protocol=PROTOCOL,
        )
        job = client.create_verification(request)
        job = client.wait_for_job(job.id, timeout_seconds=self.config.timeout_seconds)
        if job.state != "done" or not job.result:
            reason = job.failure.message if job.failure else f"the job is {job.state}"
            raise MeasurementFailed(
                f"The device {self.device!r} could not measure the network: {reason}.",
                f"See `latency-service devices show {self.device}` and the agent's log.",
            )
        found = client.measurement(str(job.result["measurement_ids"][0]))
        summary = found.summary
        return FileMeasurement(
            latency_ms=summary.latency_ms,
            lower_ms=summary.lower_ms,
            upper_ms=summary.upper_ms,
            verdict=summary.verdict,
            measurement_id=found.id,
            target_id=found.target_id,
            model_sha256=hashlib.sha256(data).hexdigest(),
        )


def pooled(first: FileMeasurement, second: FileMeasurement) -> FileMeasurement:
    """Two measurements of one file as one: their mean, each weighted by the inverse square of its
    relative interval.

    One that is unstable counts only where both are.
    """
    taken = first.taken + second.taken
    if first.verdict != second.verdict:
        return replace(first if first.verdict == "ok" else second, taken=taken)
    weights = [
        1 / max(1e-4, (m.upper_ms - m.lower_ms) / m.latency_ms) ** 2 for m in (first, second)
    ]
    share = weights[0] / sum(weights)

    def mean(a: float, b: float) -> float:
        return math.exp(share * math.log(a) + (1 - share) * math.log(b))

    latency_ms = mean(first.latency_ms, second.latency_ms)
    # as wide as the measurements differ, where their own intervals are narrower than that
    spread = abs(math.log(first.latency_ms / second.latency_ms)) / 2
    own = max(1 / sum(weights), 1e-12) ** 0.5 / 2
    half = max(spread, own)
    return replace(
        second,
        latency_ms=latency_ms,
        lower_ms=latency_ms * math.exp(-half),
        upper_ms=latency_ms * math.exp(half),
        taken=taken,
    )


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
