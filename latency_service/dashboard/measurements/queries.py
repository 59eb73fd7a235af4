"""SQL of the pages of measurements."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from latency_service.dashboard.paging import count
from latency_service.dashboard.rows import AnyRow, AnySelect
from latency_service.devices.models import Device, Target
from latency_service.jobs.models import Job
from latency_service.measurements.models import Measurement
from latency_service.spaces.models import Space


class Filter(NamedTuple):
    """Which measurements a list shows."""

    device: str | None = None
    campaign_id: str | None = None
    space_id: str | None = None
    verdict: str | None = None


def listed(chosen: Filter) -> AnySelect:
    """(id, space, device, runtime, latency, lower, upper in ms, verdict, rounds used, quarantined
    share, widths, file, when) of the measurements chosen.
    """
    columns = (
        Measurement.id,
        Space.name.label("space"),
        Device.name.label("device"),
        Target.runtime_key,
        Measurement.latency_ms,
        Measurement.lower_ms,
        Measurement.upper_ms,
        Measurement.verdict,
        Measurement.rounds_used,
        Measurement.quarantined_share,
        Measurement.widths,
        Measurement.model_sha256,
        Measurement.created_at,
    )
    joined = (
        select(*columns)
        .join(Space, Space.id == Measurement.space_id)
        .join(Target, Target.id == Measurement.target_id)
        .join(Device, Device.id == Target.device_id)
    )
    return _filtered(joined, chosen)


def count_of(session: Session, chosen: Filter) -> int:
    """How many measurements are chosen; counted without the tables that only name things."""
    return count(session, _filtered(select(Measurement.id), chosen))


def measurement(session: Session, measurement_id: str) -> AnyRow | None:
    """(measurement with its rounds and calibration, space, device, target, job)."""
    chosen = (
        select(Measurement, Space, Device, Target, Job)
        .options(undefer(Measurement.rounds), undefer(Measurement.calibration))
        .join(Space, Space.id == Measurement.space_id)
        .join(Target, Target.id == Measurement.target_id)
        .join(Device, Device.id == Target.device_id)
        .join(Job, Job.id == Measurement.job_id)
        .where(Measurement.id == measurement_id)
    )
    return session.execute(chosen).first()


def _filtered(selected: AnySelect, chosen: Filter) -> AnySelect:
    if chosen.device is not None:
        mine = (
            select(Target.id)
            .join(Device, Device.id == Target.device_id)
            .where(Device.name == chosen.device)
        )
        selected = selected.where(Measurement.target_id.in_(mine))
    if chosen.campaign_id is not None:
        selected = selected.where(Measurement.campaign_id == chosen.campaign_id)
    if chosen.space_id is not None:
        selected = selected.where(Measurement.space_id == chosen.space_id)
    if chosen.verdict is not None:
        selected = selected.where(Measurement.verdict == chosen.verdict)
    return selected
