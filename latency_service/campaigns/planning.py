"""What a campaign measures: all at once, or in rounds until its goal is reached or its time is
spent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from latency_service.campaigns.acquisition import choose, error_bound, nearby
from latency_service.campaigns.models import Campaign
from latency_service.campaigns.schemas import RoundView
from latency_service.devices import repository as devices_repository
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.jobs.models import Job
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices.sampling import group_lattice, sample
from latency_service.lattices.schemas import Lattice
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository
from latency_service.predictors import serving
from latency_service.predictors.models import StoredPredictor
from latency_service.predictors.schemas import Sidecar
from latency_service.spaces import service as spaces_service
from latency_service.spaces.slicing import SearchSpace

#: Architectures of the first round and of each that follows.
FIRST = 48
FOLLOWING = 32
#: Candidates for each place in a round.
CANDIDATES = 12
#: Architectures that must be measured all over the space before all new ones may be near one point.
KNOWN = 30
#: What is kept of the time for training and publishing.
RESERVE_SECONDS = 25.0
#: Different architectures below which a campaign that runs out of time goes on: nothing can be
#: trained on fewer.
LEAST = 12
#: How often what was measured on a target that has changed since is measured again.
AGAIN = 1


def first(
    session: Session,
    campaign: Campaign,
    space: SearchSpace,
    lattice_by_group: Sequence[Sequence[int]],
) -> list[list[int]]:
    """Width vectors of the first round: over the whole space, near the point asked for, or half and
    half; where the target's predictor is least sure if it has one and a goal is to be reached.
    """
    count = campaign.count if campaign.goal_percent is None else min(campaign.count, FIRST)
    target = devices_repository.current_target(session, campaign.device_id, campaign.runtime_key)
    if target is not None and campaign.goal_percent is not None:
        newest = predictors_repository.newest(session, space.id, target.id)
        if newest and (
            open_ones := _open_ones(session, campaign, lattice_by_group, space, newest, count)
        ):
            return open_ones
    if campaign.around is None:
        return sample(space, lattice_by_group, count, campaign.seed)
    near = nearby(lattice_by_group, campaign.around, count, campaign.seed)
    known = (
        measurements_repository.measured_state(session, space.id, target.id).usable if target else 0
    )
    if known >= KNOWN:
        return near
    spread = sample(space, lattice_by_group, count - count // 2, campaign.seed)
    return _different([*spread, *near])[:count]


def following(session: Session, campaign: Campaign) -> list[list[int]]:
    """Width vectors of another round, where the newest predictor is least sure; none when there is
    to be none.
    """
    trained = predictors_repository.of_campaign(session, campaign.id)
    if campaign.goal_percent is None or not trained or is_met(campaign, views(trained)):
        return []
    count = min(FOLLOWING, campaign.count - len(_asked(session, campaign)))
    if count <= 0 or seconds_left(session, campaign) <= 0:
        return []
    space = spaces_service.load(session, campaign.space_id)
    row = (
        None
        if campaign.lattice_id is None
        else lattices_repository.lattice(session, campaign.lattice_id)
    )
    lattice = Lattice(kinds=[]) if row is None else Lattice.model_validate(row.lattice)
    return _open_ones(session, campaign, group_lattice(space, lattice), space, trained[-1], count)


def views(trained: Sequence[StoredPredictor]) -> list[RoundView]:
    """What each training of a campaign has shown."""
    return [_view(Sidecar.model_validate(row.sidecar)) for row in trained]


def is_met(campaign: Campaign, rounds: Sequence[RoundView]) -> bool | None:
    """Whether the goal is surely reached; nothing without a goal."""
    if campaign.goal_percent is None:
        return None
    return bool(rounds) and rounds[-1].error_at_most_percent <= campaign.goal_percent


def seconds_left(session: Session, campaign: Campaign) -> float:
    """For measuring: what is left of the time asked for, less what training takes."""
    if campaign.at_most_seconds is None:
        return float("inf")
    spent = (devices_repository.now(session) - campaign.created_at).total_seconds()
    return campaign.at_most_seconds - RESERVE_SECONDS - spent


def cut_short(session: Session, campaign: Campaign) -> None:
    """Drop what waits to be measured when the campaign's time is spent and enough is measured to
    train on.
    """
    if (
        campaign.state != "running"
        or campaign.phase != "measuring"
        or seconds_left(session, campaign) > 0
    ):
        return
    rows = measurements_repository.of_stage(session, campaign.id, "measuring")
    if len({tuple(row.widths or ()) for row in rows if row.trainable}) < LEAST:
        return
    for job in jobs_repository.open_jobs_of(session, campaign.id):
        if job.state == "queued" and job.kind == "measure":
            jobs_service.cancel(session, job, "The campaign's time is spent.")


def lost(session: Session, campaign: Campaign, target_id: str) -> list[list[int]]:
    """Architectures to measure again, since they were measured before the target changed; none the
    second time.
    """
    measuring = jobs_repository.jobs_of(session, campaign.id, "measuring")
    queued = sum(len(job.architectures) for job in measuring)
    if (
        queued > (1 + AGAIN) * len(asked_of(measuring)) + campaign.repeats
        or seconds_left(session, campaign) <= 0
    ):
        return []
    rows = measurements_repository.of_stage(session, campaign.id, "measuring")
    here = {tuple(row.widths or ()) for row in rows if row.target_id == target_id}
    elsewhere = {tuple(row.widths or ()) for row in rows if row.target_id != target_id}
    wanted = _different([widths for job in measuring for widths in job.architectures])
    return [widths for widths in wanted if tuple(widths) in elsewhere - here]


def asked_of(measuring: Sequence[Job]) -> set[tuple[int, ...]]:
    """Architectures that were to be measured, those dropped for lack of time apart."""
    return {
        tuple(widths)
        for job in measuring
        if job.state != "cancelled"
        for widths in job.architectures
    }


def _asked(session: Session, campaign: Campaign) -> set[tuple[int, ...]]:
    return asked_of(jobs_repository.jobs_of(session, campaign.id, "measuring"))


def _view(sidecar: Sidecar) -> RoundView:
    return RoundView(
        measurements=sidecar.measurements,
        error_percent=sidecar.mape,
        floor_percent=sidecar.repeat_difference,
        error_at_most_percent=error_bound(sidecar.mape, sidecar.measurements),
    )


def _open_ones(
    session: Session,
    campaign: Campaign,
    lattice_by_group: Sequence[Sequence[int]],
    space: SearchSpace,
    newest: StoredPredictor,
    count: int,
) -> list[list[int]]:
    """Up to `count` architectures, measured nowhere on the target yet, about which that predictor
    is least sure.
    """
    rows = measurements_repository.measured(session, space.id, newest.target_id)
    known = {tuple(widths) for _, widths, *_ in rows if widths is not None} | _asked(
        session, campaign
    )
    seed = campaign.seed + newest.version
    if campaign.around is None:
        drawn = sample(space, lattice_by_group, CANDIDATES * count, seed)
    else:
        drawn = nearby(lattice_by_group, campaign.around, CANDIDATES * count, seed)
    candidates = [row for row in drawn if tuple(row) not in known]
    return _least_sure(session, newest, candidates, sorted(known), count) if candidates else []


def _least_sure(
    session: Session,
    newest: StoredPredictor,
    candidates: Sequence[list[int]],
    known: Sequence[tuple[int, ...]],
    count: int,
) -> list[list[int]]:
    artifact = predictors_repository.artifact(session, newest.id)
    assert artifact is not None
    loaded = serving.load(newest.id, Sidecar.model_validate(newest.sidecar), artifact)
    widths = np.asarray(candidates, np.float32)
    latency, lower, upper, gradient = (
        np.asarray(c, float) for c in loaded.predict(widths, gradient=True)
    )
    picked = choose(
        np.asarray(candidates),
        np.asarray(known),
        count,
        elasticity=np.mean(np.abs(gradient) * widths / latency[:, None], axis=0),
        doubt=(upper - lower) / (2 * latency),
    )
    return [candidates[place] for place in picked]


def _different(widths: Sequence[list[int]]) -> list[list[int]]:
    return [list(row) for row in dict.fromkeys(tuple(row) for row in widths)]
