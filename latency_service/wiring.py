"""Which rooms act when a job has ended."""

from __future__ import annotations

from sqlalchemy.orm import Session

from latency_service.campaigns import planning, state_machine
from latency_service.campaigns import repository as campaigns_repository
from latency_service.db.engine import Database
from latency_service.events import JobEnded, on_job_ended, on_job_ending
from latency_service.model_files import repository as model_files_repository
from latency_service.predictors import retraining


def connect_handlers() -> None:
    """Register the handlers in their order: the file that was measured goes, a campaign continues,
    and a predictor that is due for training gets a job.
    """
    on_job_ending(_prepare_campaign)
    on_job_ended(_remove_model_file)
    on_job_ended(_continue_campaign)
    on_job_ended(_retrain)


def _prepare_campaign(database: Database, campaign_id: str, stage: str | None) -> None:
    # the end of a sweep is the one result from a device that makes a campaign choose architectures
    if stage == "lattice":
        planning.prepare(database, campaign_id)


def _remove_model_file(session: Session, event: JobEnded) -> None:
    if event.model_sha256 is not None:
        model_files_repository.delete_unless_needed(session, event.model_sha256)


def _continue_campaign(session: Session, event: JobEnded) -> None:
    if event.campaign_id is not None:
        state_machine.advance(session, event.campaign_id)


def _retrain(session: Session, event: JobEnded) -> None:
    if event.state == "done" and event.kind != "train":
        retraining.after_measuring(session, event, campaigns_repository.is_training_planned)
