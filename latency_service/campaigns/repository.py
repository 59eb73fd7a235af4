"""All SQL about campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy import ColumnElement, Connection, Table, bindparam, exists, func, select
from sqlalchemy.orm import Session

from latency_service.campaigns.models import Campaign
from latency_service.devices.models import Device, Target
from latency_service.jobs.models import Job

# for each result that arrives; building a statement takes longer than running it
_CAMPAIGNS = cast("Table", Campaign.__table__)
_ITS = _CAMPAIGNS.c.id == bindparam("its_id")
_PHASE = select(_CAMPAIGNS.c.phase).where(_ITS, _CAMPAIGNS.c.state == "running")
_JOBS = cast("Table", Job.__table__)
_AT_WORK = select(_CAMPAIGNS.c.id).where(
    _ITS,
    _CAMPAIGNS.c.state == "running",
    _CAMPAIGNS.c.at_most_seconds.is_(None),
    exists().where(
        _JOBS.c.campaign_id == _CAMPAIGNS.c.id,
        _JOBS.c.stage == _CAMPAIGNS.c.phase,
        _JOBS.c.state.in_(("queued", "leased")),
    ),
)
_LOCK = select(Campaign).where(Campaign.id == bindparam("its_id")).with_for_update(of=Campaign)


def campaign(session: Session, campaign_id: str) -> Campaign | None:
    return session.get(Campaign, campaign_id)


def lock_campaign(session: Session, campaign_id: str) -> Campaign:
    """The campaign as it is now, held until the transaction ends."""
    fresh = {"populate_existing": True}
    return session.scalars(_LOCK, {"its_id": campaign_id}, execution_options=fresh).one()


def phase_of_running(connection: Connection, campaign_id: str) -> str | None:
    """Phase of the campaign if it is running."""
    return connection.scalar(_PHASE, {"its_id": campaign_id})


def is_at_work(session: Session, campaign_id: str) -> bool:
    """Whether the campaign has no next step yet: it has no time limit, and jobs of its phase are
    waiting or worked on. Locks nothing.
    """
    return session.scalar(_AT_WORK, {"its_id": campaign_id}) is not None


def is_training_planned(session: Session, space_id: str, target: Target) -> bool:
    """Whether a running campaign will ask for a training for the space on the target."""
    planned = exists().where(
        Campaign.space_id == space_id,
        Campaign.device_id == target.device_id,
        Campaign.state == "running",
        Campaign.runtime_key == target.runtime_key,
        Campaign.purpose == "predictor",
        Campaign.phase != "training",
    )
    return bool(session.scalar(select(planned)))


def campaigns(
    session: Session,
    *,
    device: str | None,
    space_id: str | None,
    state: str | None,
    limit: int,
    offset: int,
) -> Sequence[Campaign]:
    """Newest first."""
    chosen = select(Campaign)
    if device is not None:
        chosen = chosen.join(Device, Device.id == Campaign.device_id).where(Device.name == device)
    if space_id is not None:
        chosen = chosen.where(Campaign.space_id == space_id)
    if state is not None:
        chosen = chosen.where(Campaign.state == state)
    ordered = chosen.order_by(Campaign.created_at.desc(), Campaign.id.desc())
    return session.scalars(ordered.limit(limit).offset(offset)).all()


def is_lattice_under_way(session: Session, campaign: Campaign) -> bool:
    """Whether another campaign is sweeping widths on the same device and runtime."""
    sweeping = exists().where(
        Job.campaign_id == Campaign.id, Job.stage == "lattice", Job.state.in_(("queued", "leased"))
    )
    others = select(Campaign.id).where(*_same_place(campaign), sweeping)
    return session.scalar(others.limit(1)) is not None


def waiting_for_lattice(session: Session, campaign: Campaign) -> Sequence[str]:
    """Other campaigns on the same device and runtime that have not begun, oldest first."""
    sweeping = exists().where(Job.campaign_id == Campaign.id)
    others = select(Campaign.id).where(*_same_place(campaign), ~sweeping)
    return session.scalars(others.order_by(Campaign.created_at, Campaign.id)).all()


def spaces_waiting_for_lattice(session: Session, campaign: Campaign) -> Sequence[str]:
    """Search spaces of the other campaigns that wait for the same lattice."""
    others = select(Campaign.space_id).where(*_same_place(campaign)).distinct()
    return session.scalars(others).all()


def architectures(session: Session, campaign_id: str) -> dict[str, int]:
    """How many architectures, repeats included, the jobs of each phase hold."""
    grouped = select(Job.stage, func.sum(func.json_array_length(Job.architectures)))
    mine = grouped.where(Job.campaign_id == campaign_id).group_by(Job.stage)
    return {str(stage): int(count or 0) for stage, count in session.execute(mine)}


def architectures_left(session: Session, campaign_id: str, stage: str) -> int:
    """How many architectures the jobs of a phase hold that are still to be measured."""
    held = select(func.sum(func.json_array_length(Job.architectures))).where(
        Job.campaign_id == campaign_id, Job.stage == stage, Job.state.in_(("queued", "leased"))
    )
    return int(session.scalar(held) or 0)


def _same_place(campaign: Campaign) -> tuple[ColumnElement[bool], ...]:
    return (
        Campaign.device_id == campaign.device_id,
        Campaign.runtime_key == campaign.runtime_key,
        Campaign.state == "running",
        Campaign.phase == "lattice",
        Campaign.id != campaign.id,
    )
