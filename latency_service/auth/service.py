"""Making tokens: for enrolment, and for agents. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy.orm import Session

from latency_service.auth.models import Token
from latency_service.auth.schemas import EnrolmentView
from latency_service.db.base import utcnow
from latency_service.settings import Settings


def token_sha256(token: str) -> str:
    """What is stored and compared instead of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def enrol(session: Session, settings: Settings) -> EnrolmentView:
    """A new enrolment token. It may register any number of agents until it expires."""
    token = f"enrol-{secrets.token_urlsafe(24)}"
    row = Token(
        sha256=token_sha256(token), role="enrolment", expires_at=utcnow(settings.enrolment_seconds)
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    assert row.expires_at is not None
    return EnrolmentView(token=token, expires_at=row.expires_at)


def issue_agent_token(session: Session, agent_id: str) -> str:
    """A new token for an agent that has just registered."""
    token = f"agent-{secrets.token_urlsafe(24)}"
    session.add(Token(sha256=token_sha256(token), role="agent", agent_id=agent_id))
    return token
