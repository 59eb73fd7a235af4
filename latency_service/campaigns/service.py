"""Campaigns: asked for, shown, cancelled. `state_machine` takes their steps."""

from __future__ import annotations

from sqlalchemy.orm import Session

from latency_service.campaigns import planning, repository, state_machine
from latency_service.campaigns.models import Campaign
from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.errors import BadRequest, Conflict, NotFound
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.lattices.probes import OPSET as PROBE_OPSET
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service

MAX_SEED = 2**62


def create(session: Session, settings: Settings, request: CampaignRequest) -> Campaign:
    """Start a campaign: its first jobs are queued with it.

    Raises:
        NotFound: no such device or space.
        BadRequest: `measure` without widths, or `predictor` with them.
        WidthsError: widths that do not fit the space.
        Conflict: no agent of the device can run the space (code `version_mismatch`).
    """
    device = devices_service.get_device(session, request.device)
    space = spaces_service.get_space(session, request.space_id)
    _check(session, request, space.id)
    opset = max(space.opset, PROBE_OPSET) if request.purpose == "predictor" else space.opset
    devices_service.check_can_run(session, settings, device, request.runtime.provider, opset)
    campaign = Campaign(
        space_id=space.id,
        device_id=device.id,
        runtime_key=request.runtime.key,
        runtime=request.runtime.model_dump(),
        purpose=request.purpose,
        phase="lattice" if request.purpose == "predictor" else "measuring",
        count=request.resolved_count(),
        repeats=request.resolved_repeats(),
        goal_percent=request.goal_percent,
        at_most_seconds=request.at_most_seconds,
        around=request.around,
        repair=request.repair,
        widths=request.widths,
        batch_size=request.batch_size,
        protocol=request.protocol.model_dump(),
        seed=request.seed,
    )
    devices_repository.lock_device(session, device.id)
    session.add(campaign)
    session.flush()
    state_machine.begin(session, campaign)
    return campaign


def cancel(session: Session, campaign_id: str) -> Campaign:
    """Stop a campaign: what waits is dropped, agents at work are told to stop. Idempotent.

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
        jobs_service.cancel(session, job, "The campaign was cancelled.")
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
    """Its counts are those of the lattice sweep while that lasts, and of everything after it from
    then on.
    """
    in_lattice = campaign.phase == "lattice"

    def mine(stage: str) -> bool:
        return (stage == "lattice") == in_lattice

    tally = jobs_repository.tally(session, campaign.id)
    states = {
        name: sum(n for (stage, state), n in tally.items() if mine(stage) and state == name)
        for _, name in tally
    }
    architectures = repository.architectures(session, campaign.id)
    measured = measurements_repository.count_by_stage(session, campaign.id)
    trained = predictors_repository.of_campaign(session, campaign.id)
    seen = planning.views(trained)
    return CampaignView.model_validate(
        {
            **{name: getattr(campaign, name) for name in _COPIED},
            "device": campaign.device.name,
            "jobs_total": sum(states.values()),
            "jobs_done": states.get("done", 0),
            "jobs_failed": states.get("failed", 0),
            "architectures_total": sum(n for stage, n in architectures.items() if mine(stage)),
            "architectures_measured": sum(n for stage, n in measured.items() if mine(stage)),
            "predictor_id": trained[-1].id if trained else None,
            "rounds": seen,
            "goal_met": planning.is_met(campaign, seen) if campaign.state != "running" else None,
        }
    )


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


def _check(session: Session, request: CampaignRequest, space_id: str) -> None:
    if not 0 <= request.seed <= MAX_SEED:
        raise BadRequest(
            f"seed: {request.seed} is out of range.", f"Give a whole number from 0 to {MAX_SEED}."
        )
    space = spaces_service.load(session, space_id)
    if request.purpose == "predictor":
        if request.widths is not None:
            raise BadRequest(
                "widths: a `predictor` campaign samples its own.",
                "Leave them out, or ask for purpose `measure`.",
            )
        if request.around is not None:
            space.check_widths(request.around)
        if request.repair:
            _check_repairable(session, request, space_id)
        return
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
