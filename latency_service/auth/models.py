"""Tables of tokens, their secrets, the key of their hashes, and the audit log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.core.tokens import TokenKind
from latency_service.db.base import Base, UtcDateTime, new_id, utcnow


class Token(Base):
    """What a bearer token is for. Its secrets are in `TokenSecret`."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("kind IN ('user', 'agent', 'enrolment')", name="kind"),
        CheckConstraint("kind <> 'agent' OR agent_id IS NOT NULL", name="agent_has_id"),
        CheckConstraint("kind <> 'user' OR agent_id IS NULL", name="user_is_no_agent"),
        # an agent has one token
        Index(
            "uq_tokens_agent",
            "agent_id",
            unique=True,
            sqlite_where=text("kind = 'agent'"),
            postgresql_where=text("kind = 'agent'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[TokenKind] = mapped_column(String(16))
    #: Name for people; for an agent's token, the device.
    name: Mapped[str] = mapped_column(String(120))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    #: Agent that an agent's token belongs to, or that an enrolment token has registered.
    agent_id: Mapped[str | None] = mapped_column(ForeignKey("agents.id"))
    #: Device that an enrolment token is bound to; without one it registers new devices only.
    device: Mapped[str | None] = mapped_column(String(80))
    #: Keyed hash of the key with which the agent may repeat its registration.
    registration_digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TokenSecret(Base):
    """The keyed hash of what the holder of a token sends. After a rotation a token has two for a
    while.
    """

    __tablename__ = "token_secrets"

    # looking a token up is one read by its key
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("tokens.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    #: End of the grace after a rotation.
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ServerKey(Base):
    """A secret that all replicas share."""

    __tablename__ = "server_keys"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())


class AuditEntry(Base):
    """Who did what. Rows name things by their ids, and outlive them."""

    __tablename__ = "audit"
    __table_args__ = (
        # the newest are listed first, the oldest are deleted
        Index(None, "at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    token_id: Mapped[str] = mapped_column(String(32))
    token_name: Mapped[str] = mapped_column(String(120))
    agent_id: Mapped[str | None] = mapped_column(String(32))
    action: Mapped[str] = mapped_column(String(64))
    object_id: Mapped[str | None] = mapped_column(String(128))
    request_id: Mapped[str | None] = mapped_column(String(128))
