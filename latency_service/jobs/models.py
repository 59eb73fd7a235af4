"""Tables of jobs and their attempts: the queue."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from latency_service.db.base import Base, UtcDateTime, new_id, utcnow


class Job(Base):
    """A unit of measuring (or training) work."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("kind IN ('measure', 'verify', 'train')", name="kind"),
        CheckConstraint(
            "state IN ('queued', 'leased', 'done', 'failed', 'cancelled')", name="state"
        ),
        # training belongs to trainers, everything else to one device
        CheckConstraint("(kind = 'train') = (device_id IS NULL)", name="device_unless_train"),
        # claiming reads the head of this index: what waits, in the order in which it is given out;
        # a job of a device is never a training, so its kind need not be in it
        Index(
            "ix_jobs_queue",
            "device_id",
            "priority",
            "created_at",
            "position",
            "id",
            sqlite_where=text("state = 'queued'"),
            postgresql_where=text("state = 'queued'"),
        ),
        # a campaign counts its jobs whenever one ends
        Index(None, "campaign_id", "stage", "state"),
        # the queue is counted by state, and each state listed newest first
        Index(None, "state", "id"),
        # what failed lately is found
        Index(
            "ix_jobs_failed",
            "finished_at",
            sqlite_where=text("state = 'failed'"),
            postgresql_where=text("state = 'failed'"),
        ),
        # a model file goes when no open job needs it
        Index(None, "model_sha256"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default="queued")
    device_id: Mapped[str | None] = mapped_column(ForeignKey("devices.id"))
    campaign_id: Mapped[str | None] = mapped_column(ForeignKey("campaigns.id"))
    #: Phase of the campaign that the job belongs to.
    stage: Mapped[str | None] = mapped_column(String(16))
    #: Priority, lowest first: verifications, for which a user waits, before campaigns.
    priority: Mapped[int] = mapped_column(default=10)
    position: Mapped[int] = mapped_column(default=0)
    space_id: Mapped[str | None] = mapped_column(ForeignKey("spaces.id"))
    model_sha256: Mapped[str | None] = mapped_column(String(64))
    provider: Mapped[str] = mapped_column(default="")
    opset: Mapped[int] = mapped_column(default=0)
    runtime: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    protocol: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    seed: Mapped[int] = mapped_column(BigInteger, default=0)
    #: Width vectors [B][G] to measure; for `verify` the delivered widths, if known.
    architectures: Mapped[list[list[int]]] = mapped_column(JSON, default=list)
    #: Target and lattice of a training; of a repeat the target whose measurements it repeats.
    target_id: Mapped[str | None] = mapped_column(ForeignKey("targets.id"))
    lattice_id: Mapped[str | None] = mapped_column(ForeignKey("lattices.id"))
    #: Number of attempts so far, and how many of them died with their agent or the service.
    attempts_used: Mapped[int] = mapped_column(default=0)
    attempts_lost: Mapped[int] = mapped_column(default=0, server_default="0")
    failure_kind: Mapped[str | None] = mapped_column(String(32))
    failure_message: Mapped[str | None] = mapped_column(Text)
    failure_log: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    attempts: Mapped[list[Attempt]] = relationship(order_by="Attempt.number", back_populates="job")


class Attempt(Base):
    """One try of a job by one agent. Its id is the fencing token."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint(
            "state IN ('open', 'done', 'late', 'superseded', 'failed', 'expired', 'cancelled')",
            name="state",
        ),
        # attempts of a job are numbered without gaps or doubles
        UniqueConstraint("job_id", "number"),
        # a job is worked on by one agent at a time
        Index(
            "uq_attempts_open_job",
            "job_id",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
        # an agent works on one job at a time
        Index(
            "uq_attempts_open_agent",
            "agent_id",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
        # a device shows what its agents did lately
        Index(None, "agent_id", "leased_at"),
        # the sweep finds leases that have run out
        Index(
            "ix_attempts_expiry",
            "expires_at",
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), default="open")
    leased_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: Digest of the stored result: distinguishes a repetition from another result.
    digest: Mapped[str | None] = mapped_column(String(64))
    #: Wall-clock time of the measuring process, and its part inside timed runs.
    wall_seconds: Mapped[float | None]
    timed_seconds: Mapped[float | None]
    failure_kind: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)
    log_tail: Mapped[str | None] = mapped_column(Text)

    job: Mapped[Job] = relationship(back_populates="attempts")
