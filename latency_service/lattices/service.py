"""Lattices: versions kept for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from latency_service.core.errors import NotFound
from latency_service.lattices import repository
from latency_service.lattices.finding import find_lattice
from latency_service.lattices.models import StoredLattice
from latency_service.lattices.schemas import Lattice, LatticePoint, LatticeView


def store(
    session: Session, target_id: str, points: Mapping[str, Sequence[LatticePoint]]
) -> StoredLattice:
    """A new version of the target's lattice: the kinds just swept, and what was known of the
    others.
    """
    found = find_lattice(points)
    before = known(session, target_id)
    kept = [entry for entry in before.kinds if found.of(entry.kind) is None]
    row = StoredLattice(
        target_id=target_id,
        version=repository.next_version(session, target_id),
        lattice=Lattice(kinds=[*kept, *found.kinds]).model_dump(),
    )
    session.add(row)
    session.flush()
    return row


def known(session: Session, target_id: str) -> Lattice:
    """The newest lattice of the target; one that knows no kind of layer when it has none."""
    row = repository.newest(session, target_id)
    return Lattice(kinds=[]) if row is None else Lattice.model_validate(row.lattice)


def get(session: Session, lattice_id: str) -> LatticeView:
    """The lattice with that id.

    Raises:
        NotFound: there is none.
    """
    row = repository.lattice(session, lattice_id)
    if row is None:
        raise NotFound(
            f"There is no lattice {lattice_id!r}.", "List them with GET /v1/lattices?device=NAME."
        )
    return show(row)


def show(row: StoredLattice) -> LatticeView:
    return LatticeView(
        id=row.id,
        target_id=row.target_id,
        device=row.target.device.name,
        version=row.version,
        created_at=row.created_at,
        lattice=Lattice.model_validate(row.lattice),
    )
