"""All SQL about search spaces and delivered model files."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from latency_service.db.base import utcnow
from latency_service.jobs.models import Job
from latency_service.spaces.models import ModelFile, Space

OPEN_JOBS = ("queued", "leased")


def add(session: Session, row: Space | ModelFile) -> bool:
    """Insert a row; False when another transaction has just inserted the same one, which can be
    read then.
    """
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True


def space(session: Session, space_id: str) -> Space | None:
    return session.get(Space, space_id)


def spaces_like(session: Session, prefix: str) -> Sequence[Space]:
    """Up to two spaces whose id begins so."""
    return session.scalars(
        select(Space).where(Space.id.startswith(prefix, autoescape=True)).limit(2)
    ).all()


def spaces(session: Session) -> Sequence[Space]:
    """Spaces that users uploaded, newest first."""
    return session.scalars(
        select(Space).where(~Space.is_probe).order_by(Space.created_at.desc(), Space.id)
    ).all()


def space_blob(session: Session, space_id: str) -> bytes | None:
    return session.scalar(select(Space.blob).where(Space.id == space_id))


def model(session: Session, sha256: str) -> ModelFile | None:
    return session.get(ModelFile, sha256)


def model_blob(session: Session, sha256: str) -> bytes | None:
    return session.scalar(select(ModelFile.blob).where(ModelFile.sha256 == sha256))


def upload_again(session: Session, sha256: str) -> bool:
    """Count one more upload of a file; whether it is there."""
    counted = (
        update(ModelFile).where(ModelFile.sha256 == sha256).values(uploads=ModelFile.uploads + 1)
    )
    return session.scalar(counted.returning(ModelFile.sha256)) is not None


def delete_model_unless_needed(session: Session, sha256: str) -> None:
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


def delete_forgotten_models(session: Session, older_than_seconds: float) -> None:
    """Files that were uploaded long ago and that no open job needs."""
    session.execute(
        delete(ModelFile).where(ModelFile.created_at < utcnow(-older_than_seconds), ~_needed())
    )


def _needed() -> ColumnElement[bool]:
    return exists().where(Job.model_sha256 == ModelFile.sha256, Job.state.in_(OPEN_JOBS))
