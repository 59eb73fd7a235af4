"""All SQL about search spaces."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from latency_service.spaces.models import Space


def space(session: Session, space_id: str) -> Space | None:
    return session.get(Space, space_id)


def spaces_like(session: Session, prefix: str) -> Sequence[Space]:
    """Up to two spaces whose id begins with `prefix`."""
    return session.scalars(
        select(Space).where(Space.id.startswith(prefix, autoescape=True)).limit(2)
    ).all()


def spaces(
    session: Session, *, limit: int | None = None, offset: int | None = None
) -> Sequence[Space]:
    """Spaces uploaded by users, newest first."""
    chosen = select(Space).where(~Space.is_probe).order_by(Space.created_at.desc(), Space.id)
    return session.scalars(chosen.limit(limit).offset(offset)).all()


def names(session: Session, space_ids: Collection[str]) -> dict[str, str]:
    """Names of the spaces by their ids."""
    chosen = select(Space.id, Space.name).where(Space.id.in_(space_ids))
    return {row[0]: row[1] for row in session.execute(chosen)}


def space_blob(session: Session, space_id: str) -> bytes | None:
    return session.scalar(select(Space.blob).where(Space.id == space_id))
