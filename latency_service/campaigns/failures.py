"""Why a campaign failed, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from latency_service.jobs.models import Job
from latency_service.measurements.models import Measurement

CURE = "Cure that, then create the campaign again: what was measured is kept."


def cause_of(job: Job) -> str:
    """Why the job did not succeed."""
    if job.failure_kind:
        return f"{job.failure_kind}: {job.failure_message}"
    return f"the job is {job.state}."


def explain_too_few(
    rows: Sequence[Measurement], jobs: Sequence[Job], measured: int, requested: int
) -> str:
    """Why only `measured` of the `requested` architectures can be used: cause and cure."""
    summary = f"Only {measured} of {requested} architectures were measured well."
    reasons = [_failed_jobs(jobs), _unstable(rows), _changed_target(rows)]
    return " ".join([summary, *filter(None, reasons), CURE])


def _failed_jobs(jobs: Sequence[Job]) -> str | None:
    failed = [job for job in jobs if job.state == "failed"]
    if not failed:
        return None
    return f"{len(failed)} of {len(jobs)} jobs failed, the last: {cause_of(failed[-1])}"


def _unstable(rows: Sequence[Measurement]) -> str | None:
    unstable = [row for row in rows if not row.trainable]
    if not unstable:
        return None
    return f"{len(unstable)} measurements were too unstable, for example: {unstable[-1].reason}."


def _changed_target(rows: Sequence[Measurement]) -> str | None:
    if len({row.target_id for row in rows}) <= 1:
        return None
    return "The device's fingerprint changed meanwhile (an upgrade, other clocks or cores)."
