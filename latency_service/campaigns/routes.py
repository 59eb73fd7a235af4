"""Routes of campaigns."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body

from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.campaigns import planning, repository, service
from latency_service.campaigns.schemas import CampaignRequest, CampaignState, CampaignView
from latency_service.devices import service as devices_service
from latency_service.spaces import service as spaces_service
from latency_service.web.answers import errors
from latency_service.web.deps import Config, Data, Limit, Offset, ReadSession
from latency_service.web.routing import Router, body_kind

router = Router(prefix="/v1/campaigns", tags=["campaigns"])

EXAMPLES = {
    "predictor": {
        "summary": "measure 120 sampled architectures and train a predictor",
        "value": {"space_id": "2c26b46b68ff", "device": "laptop", "count": 120},
    },
    "goal": {
        "summary": (
            "measure and train in rounds until the error bound is at most 3 %, or 10 "
            "minutes are spent"
        ),
        "value": {
            "space_id": "2c26b46b68ff",
            "device": "laptop",
            "goal_percent": 3,
            "at_most_seconds": 600,
        },
    },
    "repair": {
        "summary": (
            "the device has changed: a few measurements, and a predictor trained from the stale one"
        ),
        "value": {"space_id": "2c26b46b68ff", "device": "laptop", "repair": True},
    },
    "measure": {
        "summary": "measure two architectures with two threads",
        "value": {
            "space_id": "2c26b46b68ff",
            "device": "laptop",
            "purpose": "measure",
            "widths": [[16, 32, 64], [12, 24, 48]],
            "runtime": {"intra_threads": 2},
        },
    },
}


@router.post("", status_code=201, dependencies=access("submit"), responses=errors(404, 409))
@body_kind("campaign")
def create_campaign(
    body: Annotated[CampaignRequest, Body(openapi_examples=EXAMPLES)],
    database: Data,
    settings: Config,
    trail: Audit,
) -> CampaignView:
    """Have architectures of a space measured on a device, and (purpose `predictor`) a predictor
    trained on them.
    """
    with service.created(database, settings, body) as (session, campaign):
        trail.record(session, "campaign.create", campaign.id)
        return service.show(session, campaign)


@router.get("", dependencies=access("read"), responses=errors(404))
def list_campaigns(
    session: ReadSession,
    device: str | None = None,
    space_id: str | None = None,
    state: CampaignState | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[CampaignView]:
    """Campaigns, newest first."""
    if device is not None:
        devices_service.get_device(session, device)
    wanted = spaces_service.get_space(session, space_id).id if space_id else None
    found = repository.campaigns(
        session, device=device, space_id=wanted, state=state, limit=limit, offset=offset
    )
    return [service.show(session, campaign) for campaign in found]


@router.get("/{campaign_id}", dependencies=access("read"))
def show_campaign(campaign_id: str, session: ReadSession) -> CampaignView:
    """One campaign. Its counts are those of the lattice sweep while that lasts, and of all that
    follows afterwards.
    """
    return service.show(session, service.get(session, campaign_id))


@router.post("/{campaign_id}/cancel", dependencies=access("submit"), responses=errors(409))
def cancel_campaign(campaign_id: str, database: Data, trail: Audit) -> CampaignView:
    """Stop a campaign. What was measured is kept."""
    planning.prepare(database, campaign_id)
    with database.write() as session:
        campaign = service.cancel(session, campaign_id)
        trail.record(session, "campaign.cancel", campaign.id)
        return service.show(session, campaign)
