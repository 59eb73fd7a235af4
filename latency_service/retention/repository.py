"""SQL of deleting that concerns several rooms."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from latency_service.campaigns.models import Campaign
from latency_service.jobs.models import Job
from latency_service.lattices.models import StoredLattice


def forget_lattices(session: Session, target_ids: Sequence[str]) -> None:
    """No job or campaign refers to the lattices of these targets any more."""
    mine = select(StoredLattice.id).where(StoredLattice.target_id.in_(target_ids))
    for table in (Job, Campaign):
        session.execute(update(table).where(table.lattice_id.in_(mine)).values(lattice_id=None))
