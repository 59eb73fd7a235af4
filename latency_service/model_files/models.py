"""Table of model files delivered for verification, which are content-addressed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, UtcDateTime, utcnow


class ModelFile(Base):
    """A delivered network, kept until the verifications that it was uploaded for have ended."""

    __tablename__ = "models"

    # the SHA-256 of the file: the same file is stored once
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    opset: Mapped[int]
    #: Number of uploads; each announces a verification.
    uploads: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    blob: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
