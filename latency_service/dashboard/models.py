"""Tables of the dashboard: who is signed in, and links that sign in once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, UtcDateTime, utcnow


class WebSession(Base):
    """A browser that is signed in. Neither its cookie nor its token is kept, only hashes."""

    __tablename__ = "web_sessions"
    __table_args__ = (
        # sessions that have expired are deleted when somebody signs in
        Index(None, "expires_at"),
    )

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: Secret that signed in, with which the session ends; see `Principal.reference`.
    token_reference: Mapped[str] = mapped_column(String(80))
    #: What forms of this session must carry.
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SignInCode(Base):
    """A link that signs a browser in, once and soon, in the name of the token that asked for it."""

    __tablename__ = "sign_in_codes"
    __table_args__ = (Index(None, "expires_at"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    #: Secret that asked for it.
    token_reference: Mapped[str] = mapped_column(String(80))
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
