"""All SQL about tokens."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from latency_service.auth.models import Token
from latency_service.db.base import utcnow


def valid_token(session: Session, sha256: str) -> Token | None:
    unexpired = or_(Token.expires_at.is_(None), Token.expires_at > utcnow())
    return session.scalar(select(Token).where(Token.sha256 == sha256, unexpired))
