"""What is shown of jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from latency_service.core.errors import NotFound
from latency_service.jobs import forecast
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.jobs.schemas import AttemptView, Failure, JobView
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository


def get(session: Session, job_id: str) -> JobView:
    """The job with that id, its attempts and its result.

    Raises:
        NotFound: there is none.
    """
    job = jobs_repository.job(session, job_id)
    if job is None:
        raise NotFound(
            f"There is no job {job_id!r}.",
            "Jobs are named by the campaign or verification that made them.",
        )
    return JobView.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "state": job.state,
            "device_id": job.device_id,
            "campaign_id": job.campaign_id,
            "created_at": job.created_at,
            "finished_at": job.finished_at,
            "attempts": [
                {name: getattr(attempt, name) for name in AttemptView.model_fields}
                for attempt in job.attempts
            ],
            "result": _result(session, job),
            "failure": _failure(job),
            "queue": forecast.place_of(session, job),
        }
    )


def _result(session: Session, job: Job) -> dict[str, Any] | None:
    if job.state != "done":
        return None
    if job.kind == "train":
        return {"predictor_id": predictors_repository.id_of_job(session, job.id)}
    return {"measurement_ids": list(measurements_repository.ids_of_job(session, job.id))}


def _failure(job: Job) -> Failure | None:
    if job.failure_kind is None:
        return None
    return Failure.model_validate(
        {
            "kind": job.failure_kind,
            "message": job.failure_message or "",
            "log_tail": job.failure_log or "",
        }
    )
