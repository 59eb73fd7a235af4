"""Requests about tokens, enrolment and the audit log; they need a token with the scope `admin`."""

from __future__ import annotations

from latency_service.auth.schemas import (
    AuditView,
    EnrolmentRequest,
    EnrolmentView,
    NewTokenView,
    RotationRequest,
    TokenRequest,
    TokenView,
)
from latency_service.core.client.connection import Connection, segment
from latency_service.core.tokens import TokenKind


class AccessRequests(Connection):
    """The part of the client that manages who may do what."""

    def create_enrolment(self, device: str | None = None) -> EnrolmentView:
        """A token with which one agent on another machine registers; it is shown once.

        Args:
            device: the only device that it may register, new or known; by default, any name that no
                device has.
        """
        body = EnrolmentRequest(device=device).model_dump()
        answer = self._request("POST", "/v1/enrolments", json=body, repeatable=False)
        return EnrolmentView.model_validate_json(answer.content)

    def create_token(self, request: TokenRequest) -> NewTokenView:
        """A user's token; its secret is shown once."""
        body = request.model_dump()
        answer = self._request("POST", "/v1/tokens", json=body, repeatable=False)
        return NewTokenView.model_validate_json(answer.content)

    def tokens(
        self, *, kind: TokenKind | None = None, limit: int = 100, offset: int = 0
    ) -> list[TokenView]:
        """Tokens of users, agents and enrolment, newest first."""
        return self._many(TokenView, "/v1/tokens", kind=kind, limit=limit, offset=offset)

    def revoke_token(self, token_id: str) -> TokenView:
        """End a token at once."""
        answer = self._request("DELETE", f"/v1/tokens/{segment(token_id)}")
        return TokenView.model_validate_json(answer.content)

    def rotate_token(self, token_id: str, request: RotationRequest) -> NewTokenView:
        """Give a user's token a new secret; the old one stays valid for the grace."""
        path = f"/v1/tokens/{segment(token_id)}/rotate"
        answer = self._request("POST", path, json=request.model_dump(), repeatable=False)
        return NewTokenView.model_validate_json(answer.content)

    def audit(
        self, *, action: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[AuditView]:
        """Who did what, newest first."""
        return self._many(AuditView, "/v1/audit", action=action, limit=limit, offset=offset)
