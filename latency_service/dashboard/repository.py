"""SQL about sessions of browsers and codes for signing in."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from latency_service.dashboard.models import SignInCode, WebSession
from latency_service.db.base import utcnow


def valid_session(session: Session, sha256: str) -> WebSession | None:
    chosen = select(WebSession).where(WebSession.sha256 == sha256)
    return session.scalar(chosen.where(WebSession.expires_at > utcnow()))


def delete_session(session: Session, sha256: str) -> None:
    session.execute(delete(WebSession).where(WebSession.sha256 == sha256))


def delete_expired(session: Session) -> None:
    for table in (WebSession, SignInCode):
        session.execute(delete(table).where(table.expires_at <= utcnow()))


def take_code(session: Session, sha256: str) -> str | None:
    """Delete a valid code and return the reference of its token. Of two that come at once exactly
    one gets it.
    """
    mine = delete(SignInCode).where(SignInCode.sha256 == sha256, SignInCode.expires_at > utcnow())
    return session.scalar(mine.returning(SignInCode.token_reference))
