"""Table of what tells this database from every other."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, new_id


class DatabaseIdentity(Base):
    """The provenance of what is exported from here; made with the first export."""

    __tablename__ = "database_identity"
    __table_args__ = (CheckConstraint("number = 1", name="only_one"),)

    # one row at most
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    id: Mapped[str] = mapped_column(String(32), default=new_id)
