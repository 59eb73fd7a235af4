"""SQL of the pages of campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from latency_service.campaigns.models import Campaign
from latency_service.dashboard.rows import AnyRow, AnySelect
from latency_service.devices.models import Device
from latency_service.jobs.models import Attempt, Job
from latency_service.spaces.models import Space


class Filter(NamedTuple):
    """Which campaigns a list shows."""

    device: str | None = None
    state: str | None = None
    space_id: str | None = None


class JobCounts(NamedTuple):
    """Jobs of a campaign."""

    total: int
    done: int
    failed: int


def listed(chosen: Filter) -> AnySelect:
    """(id, space, device, runtime, purpose, state, phase, goal in per cent, created, finished)."""
    joined = (
        select(
            Campaign.id,
            Space.name.label("space"),
            Device.name.label("device"),
            Campaign.runtime_key,
            Campaign.purpose,
            Campaign.state,
            Campaign.phase,
            Campaign.goal_percent,
            Campaign.created_at,
            Campaign.finished_at,
        )
        .join(Space, Space.id == Campaign.space_id)
        .join(Device, Device.id == Campaign.device_id)
    )
    if chosen.device is not None:
        joined = joined.where(Device.name == chosen.device)
    if chosen.state is not None:
        joined = joined.where(Campaign.state == chosen.state)
    if chosen.space_id is not None:
        joined = joined.where(Campaign.space_id == chosen.space_id)
    return joined


def job_counts(session: Session, campaign_ids: Sequence[str]) -> dict[str, JobCounts]:
    """Jobs of each campaign by how they ended."""
    chosen = select(
        Job.campaign_id,
        func.count(),
        func.sum(case((Job.state == "done", 1), else_=0)),
        func.sum(case((Job.state == "failed", 1), else_=0)),
    ).where(Job.campaign_id.in_(campaign_ids))
    rows = session.execute(chosen.group_by(Job.campaign_id))
    return {str(row[0]): JobCounts(row[1], int(row[2]), int(row[3])) for row in rows}


def last_done(session: Session, campaign_id: str, stage: str, limit: int) -> Sequence[AnyRow]:
    """The jobs of a phase that were done last, last first: (finished, architectures)."""
    chosen = select(Job.finished_at, func.json_array_length(Job.architectures))
    mine = chosen.where(Job.campaign_id == campaign_id, Job.stage == stage, Job.state == "done")
    return session.execute(mine.order_by(Job.finished_at.desc()).limit(limit)).all()


def attempt_failures(session: Session, campaign_id: str) -> Sequence[AnyRow]:
    """(kind, number of attempts, last time) of the campaign's failures, most frequent first."""
    number = func.count()
    chosen = (
        select(Attempt.failure_kind, number, func.max(Attempt.finished_at))
        .join(Job, Job.id == Attempt.job_id)
        .where(Job.campaign_id == campaign_id, Attempt.failure_kind.is_not(None))
    )
    return session.execute(chosen.group_by(Attempt.failure_kind).order_by(number.desc())).all()


def last_failures(session: Session, campaign_id: str, limit: int) -> Sequence[AnyRow]:
    """The campaign's last failed attempts: (job, attempt number, kind, message, when)."""
    chosen = (
        select(
            Attempt.job_id,
            Attempt.number,
            Attempt.failure_kind,
            Attempt.message,
            Attempt.finished_at,
        )
        .join(Job, Job.id == Attempt.job_id)
        .where(Job.campaign_id == campaign_id, Attempt.failure_kind.is_not(None))
    )
    return session.execute(chosen.order_by(Attempt.finished_at.desc()).limit(limit)).all()


def choices(session: Session, limit: int) -> tuple[Sequence[AnyRow], Sequence[str]]:
    """What a campaign can be started with: (id, name) of spaces, newest first, and devices that
    measure here.
    """
    spaces = (
        select(Space.id, Space.name)
        .where(~Space.is_probe)
        .order_by(Space.created_at.desc(), Space.id)
        .limit(limit)
    )
    devices = (
        select(Device.name)
        .where(Device.imported_from.is_(None))
        .order_by(Device.last_seen_at.desc().nulls_last(), Device.name)
        .limit(limit)
    )
    return session.execute(spaces).all(), session.scalars(devices).all()
