"""All SQL about stored lattices."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from latency_service.devices.models import Target
from latency_service.lattices.models import StoredLattice


def lattice(session: Session, lattice_id: str) -> StoredLattice | None:
    return session.get(StoredLattice, lattice_id)


def newest(session: Session, target_id: str) -> StoredLattice | None:
    chosen = select(StoredLattice).where(StoredLattice.target_id == target_id)
    return session.scalar(chosen.order_by(StoredLattice.version.desc()).limit(1))


def of_target(session: Session, target_id: str) -> Sequence[StoredLattice]:
    """Every version, newest first."""
    chosen = select(StoredLattice).where(StoredLattice.target_id == target_id)
    return session.scalars(chosen.order_by(StoredLattice.version.desc())).all()


def next_version(session: Session, target_id: str) -> int:
    highest = select(func.coalesce(func.max(StoredLattice.version), 0))
    return session.execute(highest.where(StoredLattice.target_id == target_id)).scalar_one() + 1


def of_device(
    session: Session, device_id: str | None, limit: int, offset: int
) -> Sequence[StoredLattice]:
    """Newest first; of every device when none is given."""
    chosen = select(StoredLattice).join(Target, Target.id == StoredLattice.target_id)
    if device_id is not None:
        chosen = chosen.where(Target.device_id == device_id)
    ordered = chosen.order_by(StoredLattice.created_at.desc(), StoredLattice.id.desc())
    return session.scalars(ordered.limit(limit).offset(offset)).all()


def delete_of(session: Session, target_ids: Sequence[str]) -> int:
    """Delete the lattices of these targets; how many there were. Nothing may refer to them any
    more.
    """
    gone = (
        delete(StoredLattice)
        .where(StoredLattice.target_id.in_(target_ids))
        .returning(StoredLattice.id)
    )
    return len(session.scalars(gone).all())


def newest_of_place(session: Session, device_id: str, runtime_key: str) -> StoredLattice | None:
    """The newest lattice of any target that this device and runtime have been."""
    chosen = select(StoredLattice).join(Target, Target.id == StoredLattice.target_id)
    mine = chosen.where(Target.device_id == device_id, Target.runtime_key == runtime_key)
    return session.scalar(
        mine.order_by(StoredLattice.created_at.desc(), StoredLattice.id.desc()).limit(1)
    )
