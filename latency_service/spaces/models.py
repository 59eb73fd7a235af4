"""Table of search spaces, which are content-addressed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, UtcDateTime, utcnow


class Space(Base):
    __tablename__ = "spaces"

    # SHA-256 of the file, so that equal files are stored once
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str]
    groups: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    opset: Mapped[int]
    inputs: Mapped[dict[str, list[int | str]]] = mapped_column(JSON)
    size_bytes: Mapped[int]
    parameters: Mapped[int] = mapped_column(BigInteger)
    macs: Mapped[int] = mapped_column(BigInteger)
    #: Whether the service created the space itself, to find a lattice.
    is_probe: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    blob: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
