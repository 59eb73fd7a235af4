"""Campaigns are created, shown and cancelled here; `state_machine` takes their steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy.orm import Session

from latency_service.campaigns import planning, repository, state_machine
from latency_service.campaigns.models import Campaign
from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.errors import BadRequest, Conflict, NotFound
from latency_service.db.engine import Database
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.jobs import forecast
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.lattices.probes import OPSET as PROBE_OPSET
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service
from latency_service.spaces.slicing import SearchSpace


@contextmanager
def created(
    database: Database, settings: Settings, request: CampaignRequest
) -> Iterator[tuple[Session, Campaign]]:
    """A new campaign with its first jobs, and the writing transaction that it is stored in when
    the block ends.

    The request is checked before, in a transaction of its own that only reads: nobody waits for
    the lock meanwhile.

    Raises:
        NotFound: no such device or space.
        BadRequest: `measure` without widths, `predictor` with them, or more architectures or jobs
            than one campaign may have.
        WidthsError: widths that do not fit the space.
        Conflict: no agent of the device can run the space (code `version_mismatch`).
    """
    with database.read() as session:
        _check(session, settings, request)
    with database.write() as session:
        yield session, _create(session, settings, request)


def cancel(session: Session, campaign_id: str) -> Campaign:
    """Stop a campaign: waiting jobs are dropped, agents at work are told to stop. Idempotent.

    Raises:
        NotFound: there is none of that id.
        Conflict: it has ended otherwise.
    """
    get(session, campaign_id)
    campaign = repository.lock_campaign(session, campaign_id)
    if campaign.state == "cancelled":
        return campaign
    if campaign.state != "running":
        raise Conflict(f"The campaign is {campaign.state} already.", "There is nothing to cancel.")
    for job in jobs_repository.open_jobs_of(session, campaign_id):
        jobs_service.cancel(session, job.id, "The campaign was cancelled.")
    state_machine.end(session, campaign, "cancelled")
    return campaign


def get(session: Session, campaign_id: str) -> Campaign:
    """The campaign with that id.

    Raises:
        NotFound: there is none.
    """
    campaign = repository.campaign(session, campaign_id)
    if campaign is None:
        raise NotFound(
            f"There is no campaign {campaign_id!r}.",
            "List them with: latency-service campaigns list",
        )
    return campaign


def show(session: Session, campaign: Campaign) -> CampaignView:
    """The campaign as it is shown. Its counts are those of the lattice sweep while that lasts, and
    of everything after it from then on.
    """
    trained = predictors_repository.of_campaign(session, campaign.id)
    rounds = planning.views(trained)
    return CampaignView.model_validate(
        {
            **{name: getattr(campaign, name) for name in _COPIED},
            **_count_jobs(session, campaign),
            **_count_architectures(session, campaign),
            "device": campaign.device.name,
            "queue": forecast.place_of_campaign(session, campaign.id),
            "predictor_id": trained[-1].id if trained else None,
            "rounds": rounds,
            "goal_met": planning.is_met(campaign, rounds) if campaign.state != "running" else None,
        }
    )


def _create(session: Session, settings: Settings, request: CampaignRequest) -> Campaign:
    device = devices_service.get_device(session, request.device)
    space = spaces_service.get_space(session, request.space_id)
    opset = max(space.opset, PROBE_OPSET) if request.purpose == "predictor" else space.opset
    devices_service.check_can_run(session, settings, device, request.runtime.provider, opset)
    campaign = _campaign(request, space.id, device.id)
    devices_repository.lock_device(session, device.id)
    session.add(campaign)
    session.flush()
    state_machine.begin(session, campaign)
    return campaign


def _is_shown(campaign: Campaign, stage: str) -> bool:
    return (stage == "lattice") == (campaign.phase == "lattice")


def _count_jobs(session: Session, campaign: Campaign) -> dict[str, int]:
    states: Counter[str] = Counter()
    for (stage, state), count in jobs_repository.tally(session, campaign.id).items():
        if _is_shown(campaign, stage):
            states[state] += count
    return {
        "jobs_total": states.total(),
        "jobs_done": states["done"],
        "jobs_failed": states["failed"],
    }


def _count_architectures(session: Session, campaign: Campaign) -> dict[str, int]:
    queued = repository.architectures(session, campaign.id)
    measured = measurements_repository.count_by_stage(session, campaign.id)
    return {
        "architectures_total": _count_shown(campaign, queued),
        "architectures_measured": _count_shown(campaign, measured),
    }


def _count_shown(campaign: Campaign, by_stage: Mapping[str, int]) -> int:
    return sum(count for stage, count in by_stage.items() if _is_shown(campaign, stage))


_COPIED = (
    "id",
    "space_id",
    "device_id",
    "runtime",
    "purpose",
    "state",
    "phase",
    "created_at",
    "finished_at",
    "failure",
    "goal_percent",
    "at_most_seconds",
    "around",
    "repair",
)


def _campaign(request: CampaignRequest, space_id: str, device_id: str) -> Campaign:
    return Campaign(
        space_id=space_id,
        device_id=device_id,
        runtime_key=request.runtime.key,
        runtime=request.runtime.model_dump(),
        purpose=request.purpose,
        phase="lattice" if request.purpose == "predictor" else "measuring",
        count=request.resolved_count(),
        repeats=request.resolved_repeats(),
        peer_repeats=request.resolved_peer_repeats(),
        goal_percent=request.goal_percent,
        at_most_seconds=request.at_most_seconds,
        around=request.around,
        repair=request.repair,
        widths=request.widths,
        batch_size=request.batch_size,
        protocol=request.protocol.model_dump(),
        seed=request.seed,
    )


def _check_size(settings: Settings, request: CampaignRequest) -> None:
    count = request.resolved_count() if request.widths is None else len(request.widths)
    _check_at_most(count, settings.max_campaign_architectures, "architectures")
    jobs = -(-count // request.batch_size)
    _check_at_most(jobs, settings.max_campaign_jobs, "jobs")


def _check_at_most(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise BadRequest(
            f"The campaign has {count} {what}; the maximum is {limit}.",
            f"Create several, use a larger batch_size, or raise LATENCY_SERVICE_MAX_CAMPAIGN_"
            f"{what.upper()} on the service.",
            code="too_many",
        )


def _check(session: Session, settings: Settings, request: CampaignRequest) -> None:
    devices_service.get_device(session, request.device)
    space = spaces_service.get_space(session, request.space_id)
    _check_size(settings, request)
    if request.purpose == "predictor":
        _check_for_predictor(session, request, space.id)
    else:
        _check_for_measuring(request, spaces_service.load(session, space.id))


def _check_for_predictor(session: Session, request: CampaignRequest, space_id: str) -> None:
    if request.widths is not None:
        raise BadRequest(
            "widths: a `predictor` campaign samples its own.",
            "Leave them out, or ask for purpose `measure`.",
        )
    space = planning.load(session, space_id)  # the campaign's first step needs it
    if request.around is not None:
        space.check_widths(request.around)
    if request.repair:
        _check_repairable(session, request, space_id)


def _check_for_measuring(request: CampaignRequest, space: SearchSpace) -> None:
    for name in ("goal_percent", "around", "at_most_seconds", "repair"):
        if getattr(request, name):
            raise BadRequest(
                f"{name}: a `measure` campaign has none.",
                "Leave it out, or ask for purpose `predictor`.",
            )
    if not request.widths:
        raise BadRequest(
            "widths: a `measure` campaign needs them.", "Give a list of width vectors."
        )
    for widths in request.widths:
        space.check_widths(widths)


def _check_repairable(session: Session, request: CampaignRequest, space_id: str) -> None:
    device = devices_service.get_device(session, request.device)
    if not predictors_repository.any_of(session, space_id, device.id, request.runtime.key):
        raise BadRequest(
            f"repair: {request.device!r} never had a predictor of the space with "
            f"{request.runtime.key}.",
            f"Make one: latency-service campaigns create --space {space_id[:12]} --device "
            f"{request.device}",
        )
