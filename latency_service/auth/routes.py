"""Routes of tokens, enrolment and the audit log."""

from __future__ import annotations

from fastapi import Request

from latency_service.auth import audit, service
from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.auth.authenticator import Authenticator
from latency_service.auth.schemas import (
    AuditView,
    EnrolmentRequest,
    EnrolmentView,
    NewTokenView,
    RotationRequest,
    TokenRequest,
    TokenView,
)
from latency_service.core.tokens import TokenKind
from latency_service.web.answers import errors
from latency_service.web.deps import Config, Data, Limit, Offset, ReadSession, WriteSession
from latency_service.web.routing import Router

router = Router(prefix="/v1", tags=["access"], dependencies=access("admin"))


@router.post("/enrolments", status_code=201)
def create_enrolment(
    session: WriteSession, settings: Config, trail: Audit, body: EnrolmentRequest | None = None
) -> EnrolmentView:
    """Make an enrolment token: with it one agent on another machine registers, once.

    It registers a device whose name is new. To let an agent join or replace that of a known
    device, name the device.
    """
    view = service.enrol(session, settings, body or EnrolmentRequest())
    trail.record(session, "enrolment.create", view.id)
    return view


@router.post("/tokens", status_code=201)
def create_token(
    body: TokenRequest, session: WriteSession, settings: Config, trail: Audit
) -> NewTokenView:
    """Make a user's token. Its secret is shown in this answer only."""
    view = service.create_token(session, settings, body)
    trail.record(session, "token.create", view.id)
    return view


@router.get("/tokens")
def list_tokens(
    session: ReadSession, kind: TokenKind | None = None, limit: Limit = 100, offset: Offset = 0
) -> list[TokenView]:
    """Tokens of users, agents and enrolment, newest first, without their secrets."""
    return service.listed(session, kind, limit, offset)


@router.delete("/tokens/{token_id}")
def revoke_token(token_id: str, request: Request, database: Data, trail: Audit) -> TokenView:
    """End a token. This replica refuses it at once, others within `token_cache_seconds`."""
    with database.write() as session:
        view = service.revoke(session, token_id)
        trail.record(session, "token.revoke", token_id)
    _forget(request, token_id)
    if view.kind == "agent":  # its request for work that waits ends without any
        request.app.state.upkeep.send_home(view.agent_id)
    return view


@router.post(
    "/tokens/{token_id}/rotate",
    status_code=201,
    responses=errors(409),
)
def rotate_token(
    token_id: str,
    request: Request,
    database: Data,
    settings: Config,
    trail: Audit,
    body: RotationRequest | None = None,
) -> NewTokenView:
    """Give a user's token a new secret. The old one stays valid for the grace."""
    with database.write() as session:
        view = service.rotate(session, settings, token_id, body or RotationRequest())
        trail.record(session, "token.rotate", token_id)
    _forget(request, token_id)
    return view


@router.get("/audit")
def list_audit(
    session: ReadSession, action: str | None = None, limit: Limit = 100, offset: Offset = 0
) -> list[AuditView]:
    """Who did what, newest first."""
    return audit.listed(session, action, limit, offset)


def _forget(request: Request, token_id: str) -> None:
    authenticator: Authenticator = request.app.state.authenticator
    authenticator.forget(token_id)
