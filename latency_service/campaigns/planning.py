"""Choice of the architectures that a campaign measures, in one round or several.

A campaign with a goal continues in rounds until the goal is reached or its time is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from sqlalchemy.orm import Session

from latency_service.campaigns import repository
from latency_service.campaigns.acquisition import choose, error_bound, nearby
from latency_service.campaigns.models import Campaign
from latency_service.campaigns.schemas import RoundView
from latency_service.db.engine import Database
from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Target
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.jobs.models import Job
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices.sampling import group_lattice, sample
from latency_service.lattices.schemas import Lattice
from latency_service.measurements import repository as measurements_repository
from latency_service.measurements.models import Measurement
from latency_service.predictors import repository as predictors_repository
from latency_service.predictors import serving
from latency_service.predictors.models import StoredPredictor
from latency_service.predictors.schemas import Sidecar
from latency_service.spaces import service as spaces_service
from latency_service.spaces.layers import layers
from latency_service.spaces.slicing import SearchSpace

#: Number of architectures in the first round, and in each later round.
FIRST = 48
FOLLOWING = 32
#: Number of candidates for each architecture to be chosen.
CANDIDATES = 12
#: Minimum number of measured architectures for sampling only near the requested point.
KNOWN = 30
#: Time reserved for training and publishing.
RESERVE_SECONDS = 25.0
#: Minimum number of distinct architectures to train on; with fewer, a campaign continues beyond its
#: time limit.
LEAST = 12
#: Maximum number of times that architectures are measured again because the target has changed.
AGAIN = 1


def prepare(database: Database, campaign_id: str) -> None:
    """Load the search spaces that the campaign's next step, or that of those that wait for its
    lattice, may need: reads only, so call it before the writing transaction.
    """
    with database.look() as connection:
        phase = repository.phase_of_running(connection, campaign_id)
    if phase in ("lattice", "training"):
        with database.read() as session:
            _load_spaces(session, campaign_id)


def _load_spaces(session: Session, campaign_id: str) -> None:
    campaign = repository.campaign(session, campaign_id)
    if campaign is None:
        return
    load(session, campaign.space_id)
    if campaign.phase == "lattice":
        for space_id in repository.spaces_waiting_for_lattice(session, campaign):
            load(session, space_id)


def load(session: Session, space_id: str) -> SearchSpace:
    """The space, with its layers found."""
    space = spaces_service.load(session, space_id)
    layers(space)
    return space


def first_round(
    session: Session,
    campaign: Campaign,
    space: SearchSpace,
    lattice_by_group: Sequence[Sequence[int]],
) -> list[list[int]]:
    """Width vectors of the first round: from the whole space, near the requested point, or half of
    each. With a goal and a predictor of the target, those where the predictor is most uncertain.
    """
    count = campaign.count if campaign.goal_percent is None else min(campaign.count, FIRST)
    target = devices_repository.current_target(session, campaign.device_id, campaign.runtime_key)
    if target is not None and campaign.goal_percent is not None:
        newest = predictors_repository.newest(session, space.id, target.id)
        if newest is not None:
            chosen = _uncertain(session, campaign, lattice_by_group, space, newest, count)
            if chosen:
                return chosen
    measured = _count_measured(session, space, target)
    return _sampled(campaign, space, lattice_by_group, count, measured)


def next_round(session: Session, campaign: Campaign) -> list[list[int]]:
    """Width vectors of another round, where the newest predictor is most uncertain; empty if the
    campaign should end.
    """
    trained = predictors_repository.of_campaign(session, campaign.id)
    if campaign.goal_percent is None or not trained or is_met(campaign, views(trained)):
        return []
    count = min(FOLLOWING, campaign.count - len(_requested(session, campaign)))
    if count <= 0 or seconds_left(session, campaign) <= 0:
        return []
    space = load(session, campaign.space_id)
    choices = group_lattice(space, _lattice_of(session, campaign))
    return _uncertain(session, campaign, choices, space, trained[-1], count)


def views(trained: Sequence[StoredPredictor]) -> list[RoundView]:
    """Prediction errors after each training of a campaign."""
    return [_view(Sidecar.model_validate(row.sidecar)) for row in trained]


def is_met(campaign: Campaign, rounds: Sequence[RoundView]) -> bool | None:
    """Whether the upper confidence bound of the error is at most the goal; None without a goal."""
    if campaign.goal_percent is None:
        return None
    return bool(rounds) and rounds[-1].error_at_most_percent <= campaign.goal_percent


def seconds_left(session: Session, campaign: Campaign) -> float:
    """Time left for measuring: the time limit minus the time spent and reserved for training."""
    if campaign.at_most_seconds is None:
        return float("inf")
    spent = (devices_repository.now(session) - campaign.created_at).total_seconds()
    return campaign.at_most_seconds - RESERVE_SECONDS - spent


def cut_short(session: Session, campaign: Campaign) -> None:
    """Cancel queued measurements if the campaign's time is spent and enough architectures are
    measured to train on.
    """
    is_measuring = campaign.state == "running" and campaign.phase == "measuring"
    if not is_measuring or seconds_left(session, campaign) > 0:
        return
    rows = measurements_repository.of_stage(session, campaign.id, "measuring")
    if len(_architectures(row for row in rows if row.trainable)) < LEAST:
        return
    for job in jobs_repository.open_jobs_of(session, campaign.id):
        if job.state == "queued" and job.kind == "measure":
            jobs_service.cancel(session, job.id, "The campaign's time is spent.")


def lost(session: Session, campaign: Campaign, target_id: str) -> list[list[int]]:
    """Architectures to measure again because the target has changed since; empty if this was done
    before.
    """
    jobs = jobs_repository.jobs_of(session, campaign.id, "measuring")
    if _was_repeated(campaign, jobs) or seconds_left(session, campaign) <= 0:
        return []
    rows = measurements_repository.of_stage(session, campaign.id, "measuring")
    here = _architectures(row for row in rows if row.target_id == target_id)
    elsewhere = _architectures(row for row in rows if row.target_id != target_id)
    wanted = _distinct([widths for job in jobs for widths in job.architectures])
    return [widths for widths in wanted if tuple(widths) in elsewhere - here]


def requested_by(jobs: Sequence[Job]) -> set[tuple[int, ...]]:
    """Architectures that the jobs measure, except those cancelled for lack of time."""
    kept = [job for job in jobs if job.state != "cancelled"]
    return {tuple(widths) for job in kept for widths in job.architectures}


def _requested(session: Session, campaign: Campaign) -> set[tuple[int, ...]]:
    return requested_by(jobs_repository.jobs_of(session, campaign.id, "measuring"))


def _architectures(rows: Iterable[Measurement]) -> set[tuple[int, ...]]:
    return {tuple(row.widths or ()) for row in rows}


def _was_repeated(campaign: Campaign, jobs: Sequence[Job]) -> bool:
    """Whether architectures were already measured again, apart from the campaign's repeats."""
    queued = sum(len(job.architectures) for job in jobs)
    return queued > (1 + AGAIN) * len(requested_by(jobs)) + campaign.repeats


def _view(sidecar: Sidecar) -> RoundView:
    return RoundView(
        measurements=sidecar.measurements,
        error_percent=sidecar.mape,
        floor_percent=sidecar.repeat_difference,
        error_at_most_percent=error_bound(sidecar.mape, sidecar.measurements),
    )


def _lattice_of(session: Session, campaign: Campaign) -> Lattice:
    if campaign.lattice_id is None:
        return Lattice(kinds=[])
    row = lattices_repository.lattice(session, campaign.lattice_id)
    return Lattice(kinds=[]) if row is None else Lattice.model_validate(row.lattice)


def _count_measured(session: Session, space: SearchSpace, target: Target | None) -> int:
    if target is None:
        return 0
    return measurements_repository.measured_state(session, space.id, target.id).usable


def _sampled(
    campaign: Campaign,
    space: SearchSpace,
    lattice_by_group: Sequence[Sequence[int]],
    count: int,
    measured: int,
) -> list[list[int]]:
    """Samples from the whole space, from near the requested point, or half of each."""
    if campaign.around is None:
        return sample(space, lattice_by_group, count, campaign.seed)
    near = nearby(lattice_by_group, campaign.around, count, campaign.seed)
    if measured >= KNOWN:
        return near
    spread = sample(space, lattice_by_group, count - count // 2, campaign.seed)
    return _distinct([*spread, *near])[:count]


def _uncertain(
    session: Session,
    campaign: Campaign,
    lattice_by_group: Sequence[Sequence[int]],
    space: SearchSpace,
    newest: StoredPredictor,
    count: int,
) -> list[list[int]]:
    """Up to `count` architectures, unmeasured on the target, where the predictor is most
    uncertain.
    """
    rows = measurements_repository.measured(session, space.id, newest.target_id)
    measured = {tuple(widths) for _, widths, *_ in rows if widths is not None}
    known = measured | _requested(session, campaign)
    drawn = _draw(
        campaign, lattice_by_group, space, CANDIDATES * count, campaign.seed + newest.version
    )
    candidates = [row for row in drawn if tuple(row) not in known]
    if not candidates:
        return []
    return _most_uncertain(_load(session, newest), candidates, sorted(known), count)


def _draw(
    campaign: Campaign,
    lattice_by_group: Sequence[Sequence[int]],
    space: SearchSpace,
    count: int,
    seed: int,
) -> list[list[int]]:
    if campaign.around is None:
        return sample(space, lattice_by_group, count, seed)
    return nearby(lattice_by_group, campaign.around, count, seed)


def _load(session: Session, row: StoredPredictor) -> serving.Loaded:
    artifact = predictors_repository.artifact(session, row.id)
    assert artifact is not None
    return serving.load(row.id, Sidecar.model_validate(row.sidecar), artifact)


def _most_uncertain(
    predictor: serving.Loaded,
    candidates: Sequence[list[int]],
    known: Sequence[tuple[int, ...]],
    count: int,
) -> list[list[int]]:
    widths = np.asarray(candidates, np.float32)
    columns = predictor.predict(widths, gradient=True)
    latency, lower, upper, gradient = (np.asarray(column, float) for column in columns)
    elasticity = np.mean(np.abs(gradient) * widths / latency[:, None], axis=0)
    positions = choose(
        np.asarray(candidates),
        np.asarray(known),
        count,
        elasticity=elasticity,
        doubt=(upper - lower) / (2 * latency),
    )
    return [candidates[position] for position in positions]


def _distinct(widths: Sequence[list[int]]) -> list[list[int]]:
    return [list(row) for row in dict.fromkeys(tuple(row) for row in widths)]
