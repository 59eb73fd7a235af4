"""Wire schemas of tokens and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from latency_service.core.tokens import TokenKind
from latency_service.core.wire import WireModel

UserScope = Literal["read", "submit", "artifacts:write", "admin"]
#: A name that a device may have.
DEVICE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class EnrolmentRequest(WireModel):
    device: str | None = Field(
        None,
        min_length=1,
        max_length=80,
        pattern=DEVICE_PATTERN,
        description=(
            "the only device that may be registered, new or known; by default any name that no "
            "device has"
        ),
    )


class EnrolmentView(BaseModel):
    """A token with which one agent registers, once."""

    id: str = Field(description="id of the token, as `GET /v1/tokens` lists it")
    token: str = Field(description="enrolment token; shown once")
    device: str | None = Field(description="device that the token is bound to")
    expires_at: datetime


class TokenRequest(WireModel):
    name: str = Field(min_length=1, max_length=120, description="who or what uses it")
    scopes: list[UserScope] = Field(
        min_length=1,
        max_length=4,
        description="what it allows; `admin` includes the others",
    )
    expires_days: int | None = Field(
        365, ge=1, le=3650, description="days until it expires; null: never"
    )


class RotationRequest(WireModel):
    grace_seconds: float | None = Field(
        None,
        ge=0,
        le=30 * 86400.0,
        description="how long the old secret stays valid; by default as the service is set",
    )
    expires_days: int | None = Field(
        None, ge=1, le=3650, description="days until the token expires; by default as before"
    )


class TokenView(BaseModel):
    """A token, without its secret."""

    id: str
    kind: TokenKind
    name: str
    scopes: list[str]
    agent_id: str | None = Field(
        description="agent that it belongs to, or that has registered with it"
    )
    device: str | None = Field(description="device that an enrolment token is bound to")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="to the minute")


class NewTokenView(TokenView):
    """A token with its new secret."""

    token: str = Field(description="what the holder sends; shown once")
    previous_valid_until: datetime | None = Field(
        None, description="when the secret before this one expires"
    )


class AuditView(BaseModel):
    """Who did what."""

    id: str
    at: datetime
    token_id: str
    token_name: str
    agent_id: str | None
    action: str = Field(description="such as `campaign.create`")
    object_id: str | None
    request_id: str | None
