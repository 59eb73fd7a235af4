"""The phases of a campaign: lattice, measuring, training, done.

Every function holds the campaign's row (`repository.lock_campaign`), so each step is taken
exactly once however many replicas see the last job of a phase end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from latency_service.campaigns import planning, repository
from latency_service.campaigns.models import Campaign
from latency_service.devices import repository as devices_repository
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices import service as lattices_service
from latency_service.lattices.models import StoredLattice
from latency_service.lattices.planning import MAX_ROUNDS, next_widths, sweep_protocol
from latency_service.lattices.probes import kinds_of, probe_space
from latency_service.lattices.sampling import group_lattice
from latency_service.lattices.schemas import Lattice, LatticePoint
from latency_service.measurements import repository as measurements_repository
from latency_service.measurements.models import Measurement
from latency_service.measurements.schemas import Protocol
from latency_service.spaces import service as spaces_service
from latency_service.spaces.slicing import SearchSpace

#: A campaign goes on when at least this share of its architectures was measured well enough to
#: train on.
ENOUGH = 0.5


def advance(session: Session, campaign_id: str) -> None:
    """Take the next step when the phase's last job has ended; do nothing otherwise. Safe to call at
    any time.
    """
    campaign = repository.lock_campaign(session, campaign_id)
    planning.cut_short(session, campaign)
    tally = jobs_repository.tally(session, campaign_id)
    busy = tally.get((campaign.phase, "queued"), 0) + tally.get((campaign.phase, "leased"), 0)
    if campaign.state != "running" or busy:
        return
    if campaign.phase == "lattice" and not any(stage == "lattice" for stage, _ in tally):
        begin(session, campaign)
    elif campaign.phase == "lattice":
        _after_lattice(session, campaign)
    elif campaign.phase == "measuring":
        _after_measuring(session, campaign)
    else:
        _after_training(session, campaign)


def begin(session: Session, campaign: Campaign) -> None:
    """Queue the first jobs: given widths, or samples when the target's lattice is known, or the
    sweeps to find it.

    While another campaign sweeps the same target this one waits, with no jobs, until
    `wake_waiting`.
    """
    if campaign.purpose == "measure":
        _queue(session, campaign, "measuring", campaign.space_id, campaign.widths or [])
        campaign.phase = "measuring"
        return
    devices_repository.lock_device(session, campaign.device_id)
    space = spaces_service.load(session, campaign.space_id)
    row = _lattice_of(session, campaign)
    known = Lattice(kinds=[]) if row is None else Lattice.model_validate(row.lattice)
    missing = [kind for kind in kinds_of(space) if known.of(kind) is None]
    if not missing:
        _start_measuring(session, campaign, space, known, None if row is None else row.id)
    elif not repository.is_lattice_under_way(session, campaign):
        _queue_sweeps(session, campaign, {kind: next_widths([]) for kind in missing})
    session.flush()


def end(session: Session, campaign: Campaign, state: str, failure: str | None = None) -> None:
    """End a campaign; those that waited for its lattice look again."""
    was_sweeping = campaign.phase == "lattice"
    campaign.state = state
    campaign.failure = failure
    campaign.finished_at = devices_repository.now(session)
    if state == "done":
        campaign.phase = "done"
    session.flush()
    if was_sweeping:
        _wake_waiting(session, campaign)


def _after_lattice(session: Session, campaign: Campaign) -> None:
    swept = jobs_repository.jobs_of(session, campaign.id, "lattice")
    broken = next((job for job in swept if job.state != "done"), None)
    if broken is not None:
        end(
            session,
            campaign,
            "failed",
            f"The sweep that finds the target's lattice failed: {_why(broken)}",
        )
        return
    devices_repository.lock_device(session, campaign.device_id)
    rows = measurements_repository.of_stage(session, campaign.id, "lattice")
    target_id = rows[-1].target_id  # a target that changed meanwhile is swept anew, as it is now
    points = _points_of(session, campaign, [row for row in rows if row.target_id == target_id])
    times = Counter(job.space_id for job in swept)
    going_on = [kind for kind in points if times[probe_space(kind).id] < MAX_ROUNDS]
    if wanted := {kind: widths for kind in going_on if (widths := next_widths(points[kind]))}:
        _queue_sweeps(session, campaign, wanted, position=len(swept))
        return
    stored = lattices_service.store(
        session, target_id, {kind: sweep for kind, sweep in points.items() if sweep}
    )
    space = spaces_service.load(session, campaign.space_id)
    _start_measuring(session, campaign, space, Lattice.model_validate(stored.lattice), stored.id)
    _wake_waiting(session, campaign)


def _points_of(
    session: Session, campaign: Campaign, rows: Sequence[Measurement]
) -> dict[str, list[LatticePoint]]:
    """What was measured of each kind that this campaign sweeps; nothing of a kind swept before the
    target changed.
    """
    swept = {job.space_id for job in jobs_repository.jobs_of(session, campaign.id, "lattice")}
    kinds = {
        probe_space(kind).id: kind
        for kind in kinds_of(spaces_service.load(session, campaign.space_id))
    }
    points: dict[str, list[LatticePoint]] = {
        kind: [] for probe, kind in kinds.items() if probe in swept
    }
    for row in rows:
        if row.widths is not None:
            point = LatticePoint(
                width=row.widths[0],
                latency_ms=row.latency_ms,
                lower_ms=row.lower_ms,
                upper_ms=row.upper_ms,
            )
            points[kinds[row.space_id]].append(point)
    return points


def _wake_waiting(session: Session, campaign: Campaign) -> None:
    devices_repository.lock_device(session, campaign.device_id)
    for waiting in repository.waiting_for_lattice(session, campaign):
        advance(session, waiting)


def _lattice_of(session: Session, campaign: Campaign) -> StoredLattice | None:
    """The newest of the target; to repair, of any target that this device and runtime have been."""
    if campaign.repair:
        return lattices_repository.newest_of_place(
            session, campaign.device_id, campaign.runtime_key
        )
    target = devices_repository.current_target(session, campaign.device_id, campaign.runtime_key)
    return None if target is None else lattices_repository.newest(session, target.id)


def _start_measuring(
    session: Session,
    campaign: Campaign,
    space: SearchSpace,
    lattice: Lattice,
    lattice_id: str | None,
) -> None:
    widths = planning.first(session, campaign, space, group_lattice(space, lattice))
    queued = _queue(session, campaign, "measuring", space.id, widths)
    # repeats are measured in jobs of their own, later: in the same job they would share its
    # disturbances
    _queue(
        session, campaign, "measuring", space.id, _spread(widths, campaign.repeats), position=queued
    )
    campaign.phase = "measuring"
    campaign.lattice_id = lattice_id
    session.flush()


def _after_measuring(session: Session, campaign: Campaign) -> None:
    rows = measurements_repository.of_stage(session, campaign.id, "measuring")
    asked_of = jobs_repository.jobs_of(session, campaign.id, "measuring")
    asked = planning.asked_of(asked_of)
    # the target as it is now: one that changed meanwhile is measured anew
    target_id = rows[-1].target_id if rows else None
    if target_id is not None and (again := planning.lost(session, campaign, target_id)):
        _queue(session, campaign, "measuring", campaign.space_id, again, position=len(asked_of))
        return
    usable = campaign.purpose == "measure"
    good = {
        tuple(row.widths or ())
        for row in rows
        if row.target_id == target_id and (usable or row.trainable)
    }
    if target_id is None or len(good) < ENOUGH * len(asked):
        end(session, campaign, "failed", _too_few(rows, asked_of, len(good), len(asked)))
    elif campaign.purpose == "measure":
        end(session, campaign, "done")
    else:
        tried = jobs_repository.jobs_of(session, campaign.id, "training")
        train = Job(
            kind="train",
            campaign_id=campaign.id,
            stage="training",
            space_id=campaign.space_id,
            target_id=target_id,
            lattice_id=campaign.lattice_id,
            seed=campaign.seed,
            runtime=campaign.runtime,
            position=len(tried),
        )
        session.add(train)
        campaign.phase = "training"
        session.flush()


def _after_training(session: Session, campaign: Campaign) -> None:
    job = jobs_repository.jobs_of(session, campaign.id, "training")[-1]
    if job.state != "done":
        end(session, campaign, "failed", f"No predictor could be trained: {_why(job)}")
    elif more := planning.following(session, campaign):
        queued = jobs_repository.jobs_of(session, campaign.id, "measuring")
        _queue(session, campaign, "measuring", campaign.space_id, more, position=len(queued))
        campaign.phase = "measuring"
        session.flush()
    else:
        end(session, campaign, "done")


def _too_few(rows: Sequence[Measurement], asked_of: Sequence[Job], good: int, asked: int) -> str:
    reasons = []
    failed = [job for job in asked_of if job.state == "failed"]
    if failed:
        reasons.append(
            f"{len(failed)} of {len(asked_of)} jobs failed, the last: {_why(failed[-1])}"
        )
    useless = [row for row in rows if not row.trainable]
    if useless:
        reasons.append(
            f"{len(useless)} measurements were too unstable, for example: {useless[-1].reason}."
        )
    if len({row.target_id for row in rows}) > 1:
        reasons.append(
            "The device's fingerprint changed meanwhile (an upgrade, other clocks or cores)."
        )
    cure = "Cure that, then create the campaign again: what was measured is kept."
    return " ".join([f"Only {good} of {asked} architectures were measured well.", *reasons, cure])


def _why(job: Job) -> str:
    return (
        f"{job.failure_kind}: {job.failure_message}"
        if job.failure_kind
        else f"the job is {job.state}."
    )


def _spread(widths: Sequence[list[int]], count: int) -> list[list[int]]:
    """`count` of the architectures, evenly spaced over the sample."""
    taken = min(count, len(widths))
    return [widths[i * len(widths) // taken] for i in range(taken)]


def _queue_sweeps(
    session: Session, campaign: Campaign, wanted: Mapping[str, list[int]], *, position: int = 0
) -> None:
    """One job for each kind: widths that are compared with each other are measured side by side."""
    protocol = sweep_protocol(Protocol.model_validate(campaign.protocol)).model_dump()
    for offset, (kind, widths) in enumerate(wanted.items()):
        probe, _ = spaces_service.store(
            session, spaces_service.describe(probe_space(kind), is_probe=True)
        )
        _queue(
            session,
            campaign,
            "lattice",
            probe.id,
            [[width] for width in widths],
            position=position + offset,
            batch_size=len(widths),
            protocol=protocol,
        )


def _queue(
    session: Session,
    campaign: Campaign,
    stage: str,
    space_id: str,
    widths: Sequence[list[int]],
    *,
    position: int = 0,
    batch_size: int | None = None,
    protocol: dict[str, Any] | None = None,
) -> int:
    """Queue jobs for these architectures, `batch_size` in each; the position after the last."""
    size = batch_size or campaign.batch_size
    opset = spaces_service.get_space(session, space_id).opset
    for start in range(0, len(widths), size):
        session.add(
            Job(
                kind="measure",
                campaign_id=campaign.id,
                device_id=campaign.device_id,
                stage=stage,
                position=position,
                space_id=space_id,
                opset=opset,
                runtime=campaign.runtime,
                protocol=protocol or campaign.protocol,
                provider=RuntimeConfig.model_validate(campaign.runtime).provider,
                seed=campaign.seed,
                architectures=[list(row) for row in widths[start : start + size]],
            )
        )
        position += 1
    session.flush()
    return position
