"""The phases of a campaign: lattice, measuring, training, done.

Every function runs with the campaign's row locked (`repository.lock_campaign`), so each step is
taken exactly once, however many replicas see the last job of a phase end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from latency_service.campaigns import planning, queueing, repository
from latency_service.campaigns.failures import cause_of, explain_too_few
from latency_service.campaigns.models import Campaign
from latency_service.campaigns.queueing import spread
from latency_service.devices import repository as devices_repository
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices import service as lattices_service
from latency_service.lattices.models import StoredLattice
from latency_service.lattices.planning import MAX_ROUNDS, next_widths
from latency_service.lattices.probes import kinds_of, probe_space
from latency_service.lattices.sampling import group_lattice
from latency_service.lattices.schemas import Lattice, LatticePoint
from latency_service.measurements import repository as measurements_repository
from latency_service.measurements.models import Measurement
from latency_service.spaces.slicing import SearchSpace

#: Minimum share of a campaign's architectures that must be measured well enough for its purpose.
ENOUGH = 0.5


def advance(session: Session, campaign_id: str) -> None:
    """Take the next step if the phase's last job has ended; do nothing otherwise.

    Safe to call at any time.
    """
    if repository.is_at_work(session, campaign_id):
        return
    campaign = repository.lock_campaign(session, campaign_id)
    planning.cut_short(session, campaign)
    if campaign.state != "running":
        return
    if not jobs_repository.has_open_jobs(session, campaign_id, campaign.phase):
        _take_step(session, campaign)


def begin(session: Session, campaign: Campaign) -> None:
    """Queue the first jobs: the requested widths; else samples if the target's lattice is known;
    else the sweeps that find it.

    While another campaign sweeps the same target, this one waits without jobs until that sweep
    ends.
    """
    if campaign.purpose == "measure":
        queueing.queue_more(session, campaign, campaign.widths or [])
    else:
        _begin_with_lattice(session, campaign)
    session.flush()


def end(session: Session, campaign: Campaign, state: str, failure: str | None = None) -> None:
    """End a campaign; campaigns that waited for its lattice then advance."""
    # one that only waits for a lattice holds nobody up, and must not lock the device: whoever has
    # found the lattice holds the device when it locks the campaigns that wait
    was_sweeping = campaign.phase == "lattice" and bool(
        jobs_repository.jobs_of(session, campaign.id, "lattice")
    )
    campaign.state = state
    campaign.failure = failure
    campaign.finished_at = devices_repository.now(session)
    if state == "done":
        campaign.phase = "done"
    session.flush()
    if was_sweeping:
        _wake_waiting(session, campaign)


def _take_step(session: Session, campaign: Campaign) -> None:
    if campaign.phase == "training":
        _after_training(session, campaign)
    elif campaign.phase == "measuring":
        _after_measuring(session, campaign)
    elif jobs_repository.jobs_of(session, campaign.id, "lattice"):
        _after_lattice(session, campaign)
    else:
        begin(session, campaign)


def _begin_with_lattice(session: Session, campaign: Campaign) -> None:
    devices_repository.lock_device(session, campaign.device_id)
    space = planning.load(session, campaign.space_id)
    stored = _lattice_of(session, campaign)
    known = Lattice(kinds=[]) if stored is None else Lattice.model_validate(stored.lattice)
    missing = [kind for kind in kinds_of(space) if known.of(kind) is None]
    if not missing:
        _start_measuring(session, campaign, space, known, None if stored is None else stored.id)
    elif not repository.is_lattice_under_way(session, campaign):
        queueing.queue_sweeps(session, campaign, {kind: next_widths([]) for kind in missing})


def _after_lattice(session: Session, campaign: Campaign) -> None:
    sweeps = jobs_repository.jobs_of(session, campaign.id, "lattice")
    broken = next((job for job in sweeps if job.state != "done"), None)
    if broken is not None:
        cause = f"The sweep that finds the target's lattice failed: {cause_of(broken)}"
        end(session, campaign, "failed", cause)
        return
    devices_repository.lock_device(session, campaign.device_id)
    rows = measurements_repository.of_stage(session, campaign.id, "lattice")
    target_id = rows[-1].target_id
    # a target that has changed meanwhile is swept again
    current = [row for row in rows if row.target_id == target_id]
    points = _points_of(session, campaign, sweeps, current)
    if wanted := _unfinished(points, sweeps):
        queueing.queue_sweeps(session, campaign, wanted, position=len(sweeps))
    else:
        _store_lattice(session, campaign, target_id, points)


def _points_of(
    session: Session, campaign: Campaign, sweeps: Sequence[Job], rows: Sequence[Measurement]
) -> dict[str, list[LatticePoint]]:
    """Measured points of each layer kind that this campaign sweeps; empty for a kind swept before
    the target changed.
    """
    space = planning.load(session, campaign.space_id)
    kinds = {probe_space(kind).id: kind for kind in kinds_of(space)}
    swept = {job.space_id for job in sweeps}
    points: dict[str, list[LatticePoint]] = {
        kind: [] for probe_id, kind in kinds.items() if probe_id in swept
    }
    for row in rows:
        if row.widths is not None:
            points[kinds[row.space_id]].append(_point(row, row.widths[0]))
    return points


def _point(row: Measurement, width: int) -> LatticePoint:
    return LatticePoint(
        width=width, latency_ms=row.latency_ms, lower_ms=row.lower_ms, upper_ms=row.upper_ms
    )


def _unfinished(
    points: Mapping[str, list[LatticePoint]], sweeps: Sequence[Job]
) -> dict[str, list[int]]:
    """Widths still to be measured of each kind, without kinds that need none or have had the
    maximum number of rounds.
    """
    rounds = Counter(job.space_id for job in sweeps)
    wanted = {
        kind: next_widths(measured)
        for kind, measured in points.items()
        if rounds[probe_space(kind).id] < MAX_ROUNDS
    }
    return {kind: widths for kind, widths in wanted.items() if widths}


def _store_lattice(
    session: Session,
    campaign: Campaign,
    target_id: str,
    points: Mapping[str, list[LatticePoint]],
) -> None:
    found = {kind: measured for kind, measured in points.items() if measured}
    stored = lattices_service.store(session, target_id, found)
    space = planning.load(session, campaign.space_id)
    _start_measuring(session, campaign, space, Lattice.model_validate(stored.lattice), stored.id)
    _wake_waiting(session, campaign)


def _wake_waiting(session: Session, campaign: Campaign) -> None:
    devices_repository.lock_device(session, campaign.device_id)
    for waiting in repository.waiting_for_lattice(session, campaign):
        advance(session, waiting)


def _lattice_of(session: Session, campaign: Campaign) -> StoredLattice | None:
    """Newest lattice of the current target or, for a repair, of the device and runtime."""
    place = (campaign.device_id, campaign.runtime_key)
    if campaign.repair:
        return lattices_repository.newest_of_place(session, *place)
    target = devices_repository.current_target(session, *place)
    return None if target is None else lattices_repository.newest(session, target.id)


def _start_measuring(
    session: Session,
    campaign: Campaign,
    space: SearchSpace,
    lattice: Lattice,
    lattice_id: str | None,
) -> None:
    widths = planning.first_round(session, campaign, space, group_lattice(space, lattice))
    position = queueing.queue_measuring(session, campaign, widths)
    # repeats have later jobs of their own: in the same job they would share its interference
    repeated = spread(widths, campaign.repeats)
    queueing.queue_measuring(session, campaign, repeated, position=position)
    campaign.phase = "measuring"
    campaign.lattice_id = lattice_id
    session.flush()


def _after_measuring(session: Session, campaign: Campaign) -> None:
    rows = measurements_repository.of_stage(session, campaign.id, "measuring")
    jobs = jobs_repository.jobs_of(session, campaign.id, "measuring")
    # the current target: architectures measured before it changed are measured again
    target_id = rows[-1].target_id if rows else None
    if target_id is not None and (again := planning.lost(session, campaign, target_id)):
        queueing.queue_more(session, campaign, again)
        return
    requested = len(planning.requested_by(jobs))
    measured = _count_measured(campaign, rows, target_id)
    if target_id is None or measured < ENOUGH * requested:
        end(session, campaign, "failed", explain_too_few(rows, jobs, measured, requested))
        return
    if not jobs_repository.jobs_of(session, campaign.id, "training"):
        queueing.queue_peer_repeats(session, campaign, target_id, rows)
    if campaign.purpose == "measure":
        end(session, campaign, "done")
    else:
        queueing.queue_training(session, campaign, target_id)


def _count_measured(campaign: Campaign, rows: Sequence[Measurement], target_id: str | None) -> int:
    """Number of distinct architectures measured on the target well enough for the purpose."""
    any_quality = campaign.purpose == "measure"
    here = [row for row in rows if row.target_id == target_id]
    return len({tuple(row.widths or ()) for row in here if any_quality or row.trainable})


def _after_training(session: Session, campaign: Campaign) -> None:
    job = jobs_repository.jobs_of(session, campaign.id, "training")[-1]
    if job.state != "done":
        end(session, campaign, "failed", f"No predictor could be trained: {cause_of(job)}")
    elif more := planning.next_round(session, campaign):
        queueing.queue_more(session, campaign, more)
    else:
        end(session, campaign, "done")
