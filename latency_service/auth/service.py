"""Making, rotating and revoking tokens. Only keyed hashes of their secrets are stored."""

from __future__ import annotations

import hmac

from sqlalchemy.orm import Session

from latency_service.auth import keys, repository
from latency_service.auth.models import Token, TokenSecret
from latency_service.auth.schemas import (
    EnrolmentRequest,
    EnrolmentView,
    NewTokenView,
    RotationRequest,
    TokenRequest,
    TokenView,
)
from latency_service.core import tokens
from latency_service.core.errors import Conflict, NotFound, Unauthorised
from latency_service.core.tokens import TokenKind
from latency_service.db.base import utcnow
from latency_service.settings import Settings

DAY_SECONDS = 86400.0
#: How long users' and enrolment tokens that have ended are still listed.
ENDED_SECONDS = 30 * DAY_SECONDS

_NEW_ENROLMENT = "Create another one: latency-service enrolments create."


def create_token(session: Session, settings: Settings, request: TokenRequest) -> NewTokenView:
    """A new user's token."""
    repository.delete_ended(session, ENDED_SECONDS)
    row = Token(kind="user", name=request.name, scopes=sorted(set(request.scopes)))
    if request.expires_days is not None:
        row.expires_at = utcnow(request.expires_days * DAY_SECONDS)
    secret = _store(session, settings, row)
    return NewTokenView(**show(row).model_dump(), token=secret)


def enrol(session: Session, settings: Settings, request: EnrolmentRequest) -> EnrolmentView:
    """A new enrolment token: it registers one agent, once."""
    repository.delete_ended(session, ENDED_SECONDS)
    row = Token(
        kind="enrolment",
        name=request.device or "any new device",
        scopes=["enrolment"],
        device=request.device,
        expires_at=utcnow(settings.enrolment_seconds),
    )
    secret = _store(session, settings, row)
    assert row.expires_at is not None
    return EnrolmentView(id=row.id, token=secret, device=row.device, expires_at=row.expires_at)


def issue_agent_token(session: Session, settings: Settings, agent_id: str, device: str) -> str:
    """The token of an agent that has just registered."""
    row = Token(kind="agent", name=device, scopes=["agent"], agent_id=agent_id)
    return _store(session, settings, row)


def replace_agent_secret(session: Session, settings: Settings, agent_id: str) -> str:
    """A new secret for an agent that never got the first one, which ends at once.

    Raises:
        Unauthorised: the agent's token has been revoked.
    """
    row = repository.token_of_agent(session, agent_id)
    if row is None or row.revoked_at is not None:
        raise Unauthorised("The agent's token has been revoked.", _NEW_ENROLMENT)
    repository.delete_secrets(session, row.id)
    return _add_secret(session, settings, row)


def rotate_if_old(session: Session, settings: Settings, token_id: str) -> str | None:
    """A new secret for an agent whose own is older than `agent_token_days`; None for others.

    The old one stays valid for the usual grace, so that an answer that gets lost locks nobody out.
    """
    oldest_seconds = settings.agent_token_days * DAY_SECONDS
    if not repository.is_secret_old(session, token_id, oldest_seconds):
        return None
    row = repository.lock_token(session, token_id)
    assert row is not None
    if not repository.is_secret_old(session, token_id, oldest_seconds):
        return None  # another request has just renewed it
    repository.end_secrets(session, token_id, settings.token_grace_seconds)
    return _add_secret(session, settings, row)


def open_enrolment(session: Session, token_id: str) -> Token:
    """The enrolment token, held until the transaction ends.

    Raises:
        Unauthorised: it has been revoked or has expired since it was looked up.
    """
    row = repository.lock_token(session, token_id)
    if row is None or not repository.is_usable(session, token_id):
        raise Unauthorised("The enrolment token is not valid any more.", _NEW_ENROLMENT)
    return row


def use_enrolment(
    session: Session, settings: Settings, row: Token, agent_id: str, registration_key: str | None
) -> None:
    """Note which agent an enrolment token has registered: it registers no other."""
    row.agent_id = agent_id
    if registration_key is not None:
        row.registration_digest = _digest(session, settings, registration_key)
    session.flush()


def check_repeated(
    session: Session, settings: Settings, row: Token, registration_key: str | None
) -> None:
    """Return if the agent that has used the enrolment token asks again.

    Raises:
        Conflict: another one asks (code `enrolment_used`).
    """
    known = row.registration_digest
    sent = "" if registration_key is None else _digest(session, settings, registration_key)
    if known is None or not hmac.compare_digest(known, sent):
        raise Conflict(
            "The enrolment token has been used: it registers one agent, once.",
            _NEW_ENROLMENT,
            code="enrolment_used",
        )


def listed(session: Session, kind: TokenKind | None, limit: int, offset: int) -> list[TokenView]:
    """Tokens, newest first."""
    return [show(row) for row in repository.tokens(session, kind, limit, offset)]


def revoke(session: Session, token_id: str) -> TokenView:
    """End a token at once, with all its secrets. Revoking it again changes nothing.

    Raises:
        NotFound: there is no such token.
    """
    row = _get(session, token_id)
    if row.revoked_at is None:
        row.revoked_at = utcnow()
        session.flush()
        session.refresh(row)
    return show(row)


def rotate(
    session: Session, settings: Settings, token_id: str, request: RotationRequest
) -> NewTokenView:
    """Give a user's token a new secret; the old one stays valid for the grace.

    Raises:
        NotFound: there is no such token.
        Conflict: it is not a user's, or it has been revoked or has expired.
    """
    row = _get(session, token_id)
    _check_rotatable(session, row)
    grace_seconds = request.grace_seconds
    if grace_seconds is None:
        grace_seconds = settings.token_grace_seconds
    until = repository.end_secrets(session, token_id, grace_seconds)
    if request.expires_days is not None:
        row.expires_at = utcnow(request.expires_days * DAY_SECONDS)
    secret = _add_secret(session, settings, row)
    return NewTokenView(**show(row).model_dump(), token=secret, previous_valid_until=until)


def show(row: Token) -> TokenView:
    return TokenView.model_validate(row, from_attributes=True)


def _check_rotatable(session: Session, row: Token) -> None:
    if row.kind == "agent":
        raise Conflict(
            "Agents change their own tokens when they start.",
            f"To lock this agent out: latency-service tokens revoke {row.id}.",
        )
    if row.kind == "enrolment":
        raise Conflict("An enrolment token is used once, not rotated.", _NEW_ENROLMENT)
    if not repository.is_usable(session, row.id):
        raise Conflict(
            "The token has been revoked or has expired.",
            "Create another one: latency-service tokens create NAME --scope SCOPE.",
        )


def _get(session: Session, token_id: str) -> Token:
    row = repository.lock_token(session, token_id)
    if row is None:
        raise NotFound(
            f"There is no token {token_id!r}.", "List them with: latency-service tokens list."
        )
    return row


def _store(session: Session, settings: Settings, row: Token) -> str:
    session.add(row)
    session.flush()
    return _add_secret(session, settings, row)


def _add_secret(session: Session, settings: Settings, row: Token) -> str:
    secret = tokens.make(row.kind)
    session.add(TokenSecret(digest=_digest(session, settings, secret), token_id=row.id))
    session.flush()
    session.refresh(row)
    return secret


def _digest(session: Session, settings: Settings, secret: str) -> str:
    return keys.digest_of(keys.make_key(session, settings), secret)
