"""All SQL about tokens and the audit log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from latency_service.auth.models import AuditEntry, Token, TokenSecret
from latency_service.db.base import utcnow

#: Shortest time between two records of a token's use.
USE_SECONDS = 60.0
#: Number of tokens in one statement.
_CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Found:
    """A token that belongs to a secret."""

    token: Token
    #: The stored hash of the secret.
    digest: str
    #: Whether the token, or this secret of it, has expired.
    expired: bool
    #: Whether its use should be recorded.
    unrecorded: bool


def find(session: Session, digest: str) -> Found | None:
    """The token to which a secret belongs, valid or not."""
    expired = or_(_is_over(Token.expires_at), _is_over(TokenSecret.expires_at))
    unrecorded = _is_unrecorded()
    chosen = select(Token, TokenSecret.digest, _flag(expired), _flag(unrecorded))
    chosen = chosen.join(TokenSecret, TokenSecret.token_id == Token.id)
    row = session.execute(chosen.where(TokenSecret.digest == digest)).first()
    if row is None:
        return None
    return Found(token=row[0], digest=row[1], expired=bool(row[2]), unrecorded=bool(row[3]))


def valid(session: Session, digests: Sequence[str]) -> dict[str, str | None]:
    """Those of the secrets that are valid; with the id of the token whose use should be recorded,
    or None.
    """
    to_record = case((_is_unrecorded(), Token.id))
    chosen = select(TokenSecret.digest, to_record).join(Token, Token.id == TokenSecret.token_id)
    chosen = chosen.where(
        Token.revoked_at.is_(None), ~_is_over(Token.expires_at), ~_is_over(TokenSecret.expires_at)
    )
    found: dict[str, str | None] = {}
    for start in range(0, len(digests), _CHUNK):
        some = TokenSecret.digest.in_(digests[start : start + _CHUNK])
        found.update((row[0], row[1]) for row in session.execute(chosen.where(some)))
    return found


def record_uses(session: Session, token_ids: Collection[str]) -> None:
    """Store that the tokens are used now, each at most once in `USE_SECONDS`."""
    ids = sorted(token_ids)
    for start in range(0, len(ids), _CHUNK):
        chosen = update(Token).where(Token.id.in_(ids[start : start + _CHUNK]), _is_unrecorded())
        session.execute(chosen.values(last_used_at=utcnow()))


def lock_token(session: Session, token_id: str) -> Token | None:
    """The token as it is now, held until the transaction ends."""
    chosen = select(Token).where(Token.id == token_id).with_for_update()
    return session.scalar(chosen, execution_options={"populate_existing": True})


def token_of_agent(session: Session, agent_id: str) -> Token | None:
    chosen = select(Token).where(Token.kind == "agent", Token.agent_id == agent_id)
    return session.scalar(chosen.with_for_update())


def tokens(session: Session, kind: str | None, limit: int, offset: int) -> Sequence[Token]:
    """Tokens, newest first."""
    chosen = select(Token).order_by(Token.created_at.desc(), Token.id.desc())
    if kind is not None:
        chosen = chosen.where(Token.kind == kind)
    return session.scalars(chosen.limit(limit).offset(offset)).all()


def is_usable(session: Session, token_id: str) -> bool:
    """Whether the token is neither revoked nor expired."""
    usable = and_(Token.revoked_at.is_(None), ~_is_over(Token.expires_at))
    return bool(session.scalar(select(_flag(usable)).where(Token.id == token_id)))


def end_secrets(session: Session, token_id: str, grace_seconds: float) -> datetime | None:
    """Let all secrets of a token expire after `grace_seconds`, none later than before; when the
    last of them does.
    """
    end = utcnow(grace_seconds)
    sooner = or_(TokenSecret.expires_at.is_(None), TokenSecret.expires_at > end)
    mine = TokenSecret.token_id == token_id
    session.execute(update(TokenSecret).where(mine, sooner).values(expires_at=end))
    return session.scalar(select(func.max(TokenSecret.expires_at)).where(mine))


def delete_secrets(session: Session, token_id: str) -> None:
    session.execute(delete(TokenSecret).where(TokenSecret.token_id == token_id))


def is_secret_old(session: Session, token_id: str, older_than_seconds: float) -> bool:
    """Whether the newest secret of the token is older than `older_than_seconds`."""
    newest = func.max(TokenSecret.created_at)
    chosen = select(_flag(newest < utcnow(-older_than_seconds)))
    return bool(session.scalar(chosen.where(TokenSecret.token_id == token_id)))


def delete_ended(session: Session, older_than_seconds: float) -> None:
    """Delete users' and enrolment tokens that ended long ago."""
    before = utcnow(-older_than_seconds)
    ended = or_(Token.expires_at < before, Token.revoked_at < before)
    mine = and_(Token.kind != "agent", ended)
    secrets = exists().where(Token.id == TokenSecret.token_id, mine)
    session.execute(delete(TokenSecret).where(secrets))
    session.execute(delete(Token).where(mine))


def audit_entries(
    session: Session, *, action: str | None, limit: int, offset: int
) -> Sequence[AuditEntry]:
    """Entries of the audit log, newest first."""
    chosen = select(AuditEntry).order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
    if action is not None:
        chosen = chosen.where(AuditEntry.action == action)
    return session.scalars(chosen.limit(limit).offset(offset)).all()


def delete_audit(session: Session, older_than_seconds: float) -> None:
    session.execute(delete(AuditEntry).where(AuditEntry.at < utcnow(-older_than_seconds)))


def _is_over(column: InstrumentedAttribute[datetime | None]) -> ColumnElement[bool]:
    return and_(column.is_not(None), column <= utcnow())


def _is_unrecorded() -> ColumnElement[bool]:
    return or_(Token.last_used_at.is_(None), Token.last_used_at <= utcnow(-USE_SECONDS))


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """A condition as a column on both dialects."""
    return case((condition, 1), else_=0)
