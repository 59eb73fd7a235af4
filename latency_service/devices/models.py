"""Tables of devices, their agents and the targets that they offer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
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


class Device(Base):
    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    # a name means one machine: agents that register it again join it
    name: Mapped[str] = mapped_column(String(80), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    last_seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    #: Since when it is given checks only, and why; null while it is trusted.
    quarantined_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    quarantine_reason: Mapped[str | None] = mapped_column(Text)
    #: Target whose speed must return to end the quarantine: one of this device, or of another one
    #: of its class. It is null if only an admin can end the quarantine.
    quarantine_target_id: Mapped[str | None] = mapped_column(String(32))
    #: Id of the database whose agents measured it; null for this database's own devices.
    imported_from: Mapped[str | None] = mapped_column(String(32))


class Agent(Base):
    """A process that claims jobs: a device's agent, or a trainer (without a device)."""

    __tablename__ = "agents"
    __table_args__ = (
        CheckConstraint("(kind = 'trainer') = (device_id IS NULL)", name="device_unless_trainer"),
        # listing a device's agents
        Index(None, "device_id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(16))
    device_id: Mapped[str | None] = mapped_column(ForeignKey("devices.id"))
    agent_version: Mapped[str]
    runtime_version: Mapped[str]
    max_opset: Mapped[int]
    providers: Mapped[list[str]] = mapped_column(JSON)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16), default="idle")
    load: Mapped[float | None]
    temperature_c: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())


class Target(Base):
    """A device and a runtime configuration, as its fingerprint tells them apart."""

    __tablename__ = "targets"
    __table_args__ = (
        # one row for each fingerprint and speed of a device: measurements of one target are never
        # spread over two
        UniqueConstraint("device_id", "fingerprint", "generation"),
        # a device is in one state at a time: the target measured last is current, what the others
        # know is stale
        Index(
            "uq_targets_current",
            "device_id",
            "runtime_key",
            unique=True,
            sqlite_where=text("is_current"),
            postgresql_where=text("is_current"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"))
    fingerprint: Mapped[str] = mapped_column(String(64))
    runtime_key: Mapped[str]
    runtime: Mapped[dict[str, Any]] = mapped_column(JSON)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    context: Mapped[dict[str, Any]] = mapped_column(JSON)
    canaries: Mapped[list[str]] = mapped_column(JSON)
    #: Lowest calibration seen of each canary, ms.
    canary_ms: Mapped[list[float]] = mapped_column(JSON)
    #: Number of speeds seen under one fingerprint, this one included: facts do not show every
    #: change.
    generation: Mapped[int] = mapped_column(default=1)
    is_current: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())

    device: Mapped[Device] = relationship()


class Comparison(Base):
    """How a target differs from another device's target of the same class, by the newest repeats;
    a row for each of the two.
    """

    __tablename__ = "comparisons"

    target_id: Mapped[str] = mapped_column(ForeignKey("targets.id"), primary_key=True)
    peer_target_id: Mapped[str] = mapped_column(ForeignKey("targets.id"), primary_key=True)
    #: Number of architectures that were compared.
    architectures: Mapped[int]
    #: How much longer they take than on the peer, at the median, and each canary, per cent.
    median_percent: Mapped[float]
    canary_percent: Mapped[list[float]] = mapped_column(JSON)
    #: Whether that is more than noise.
    differs: Mapped[bool]
    compared_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
