"""All SQL about delivered model files."""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from latency_service.db.base import utcnow
from latency_service.jobs.models import Job
from latency_service.model_files.models import ModelFile

OPEN_JOBS = ("queued", "leased")


def model_file(session: Session, sha256: str) -> ModelFile | None:
    return session.get(ModelFile, sha256)


def blob(session: Session, sha256: str) -> bytes | None:
    return session.scalar(select(ModelFile.blob).where(ModelFile.sha256 == sha256))


def upload_again(session: Session, sha256: str) -> bool:
    """Count one more upload of a file; whether it is there."""
    counted = (
        update(ModelFile).where(ModelFile.sha256 == sha256).values(uploads=ModelFile.uploads + 1)
    )
    return session.scalar(counted.returning(ModelFile.sha256)) is not None


def delete_unless_needed(session: Session, sha256: str) -> None:
    """Delete a file that no open job needs, unless somebody has uploaded it and not asked for the
    verification yet.
    """
    asked = select(func.count()).where(
        Job.model_sha256 == sha256, Job.created_at >= ModelFile.created_at
    )
    done = delete(ModelFile).where(
        ModelFile.sha256 == sha256, ~_needed(), ModelFile.uploads <= asked.scalar_subquery()
    )
    session.execute(done)


def delete_forgotten(session: Session, older_than_seconds: float) -> None:
    """Files that were uploaded long ago and that no open job needs."""
    session.execute(
        delete(ModelFile).where(ModelFile.created_at < utcnow(-older_than_seconds), ~_needed())
    )


def _needed() -> ColumnElement[bool]:
    return exists().where(Job.model_sha256 == ModelFile.sha256, Job.state.in_(OPEN_JOBS))
