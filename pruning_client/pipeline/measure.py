"""Files measured on a target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from latency_service.core.client import Client
from latency_service.core.quantisation import precision_of
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import JobView
from latency_service.measurements.schemas import Protocol
from latency_service.measurements.shares import share_in_rounds
from latency_service.verifications.schemas import VerifyRequest
from pruning_client.errors import MeasurementFailed, Refused
from pruning_client.latency.readings import FileMeasurement, Stage
from pruning_client.pipeline.verify import Verify
from pruning_client.reports.schema import Verification

#: Protocol of a verification: longer than a campaign's, because one file decides.
PROTOCOL = Protocol(min_rounds=15, max_rounds=200, budget_seconds=12.0)


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Measures files on one target."""

    client: Client
    device: str
    runtime: RuntimeConfig
    space_id: str
    config: Verify

    def measure(self, data: bytes, widths: Sequence[int]) -> FileMeasurement:
        """Upload this very file and measure it once.

        Raises:
            Refused: the file has another precision than the target.
            MeasurementFailed: the agent gave up, with its reason.
            Timeout: no agent took the measurement in time.
        """
        self._check_precision(data)
        job = self._finished_job(self.client.upload_model(data), widths)
        if job.state != "done" or not job.result:
            raise self._failure(job)
        measurement = self.client.measurement(str(job.result["measurement_ids"][0]))
        summary = measurement.summary
        return FileMeasurement(
            latency_ms=summary.latency_ms,
            lower_ms=summary.lower_ms,
            upper_ms=summary.upper_ms,
            reference_ms=summary.reference_ms,
            reference_elasticity=summary.reference_elasticity,
            share=share_in_rounds(measurement.rounds or ()),
            verdict=summary.verdict,
            measurement_id=measurement.id,
            target_id=measurement.target_id,
            model_sha256=hashlib.sha256(data).hexdigest(),
            seconds=sum(attempt.wall_seconds or 0.0 for attempt in job.attempts),
        )

    def _check_precision(self, data: bytes) -> None:
        precision = precision_of(onnx.load_model_from_string(data))
        if precision != self.runtime.precision:
            raise Refused(
                f"The file is {precision} and the target runs {self.runtime.precision} files: its "
                "latency would say nothing of that target.",
                f"Prune for a target of precision {precision}.",
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
