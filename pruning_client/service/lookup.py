"""The device of a target, and the predictor of a search space on it."""

from __future__ import annotations

from dataclasses import dataclass

from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.client import Client
from latency_service.core.transport import ApiError
from latency_service.devices.schemas import DeviceView, RuntimeConfig
from latency_service.predictors.schemas import PredictorView
from pruning_client.errors import MeasurementFailed, Missing, PredictorRefused, UsageError
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.service.campaign import Campaign

_PHASES = {
    "lattice": "find the lattice",
    "measuring": "measure",
    "training": "train the predictor",
    "done": "train the predictor",
}


@dataclass(frozen=True, kw_only=True)
class PredictorQuery:
    """A search space on one target."""

    space_id: str
    #: name of the device
    device: str
    runtime: RuntimeConfig
    #: id of the target, which changes with the device's fingerprint
    target_id: str


def find_device(client: Client, name: str | None) -> DeviceView:
    """The device of this name, or the only one when no name is given; its agent must be online.

    Raises:
        Missing: there is none, or its agent is offline.
        UsageError: no name is given and there are several.
    """
    devices = client.devices()
    if name is None and len(devices) > 1:
        raise UsageError(
            f"There are several devices: {_names(devices)}.",
            "Choose one with --target (`target`).",
        )
    found = next((device for device in devices if name in (None, device.name)), None)
    if found is None:
        known = f"There is no device {name!r}; known: {_names(devices)}."
        raise Missing(
            "There is no device." if name is None else known,
            "Start an agent there: `latency-service agent --server URL --token ENROLMENT`.",
        )
    if not found.online:
        raise Missing(
            f"The device {found.name!r} is offline.",
            "Start its agent again: `latency-service up` or `latency-service agent`.",
        )
    return found


def find_predictor(client: Client, query: PredictorQuery) -> PredictorView | None:
    """The newest predictor of the space on this very target that is not stale."""
    return next((view for view in _every(client, query) if not _is_outdated(view, query)), None)


def find_named(client: Client, predictor_id: str, query: PredictorQuery) -> PredictorView:
    """The predictor of this id, if it is one of the space on this very target.

    Raises:
        PredictorRefused: it is stale, or of another network, device or runtime configuration.
    """
    view = client.predictor(predictor_id)
    fault = _fault(view, query)
    if fault is not None:
        raise PredictorRefused(
            f"The predictor {predictor_id} is refused: {fault}.",
            "Leave the id out: the right predictor is found or made.",
        )
    return view


def need_predictor(
    client: Client, query: PredictorQuery, campaign: Campaign, seed: int, progress: Progress
) -> PredictorView:
    """The predictor of the space on the target; measures and trains one when there is none.

    Raises:
        Missing: there is none, and no campaign may be started.
        MeasurementFailed: the campaign failed or was cancelled.
        Timeout: the campaign is still running.
    """
    found = find_predictor(client, query)
    if found is not None:
        return found
    if not campaign.allowed:
        raise _missing(client, query)
    done = run_campaign(client, _request(query, campaign, seed), campaign, progress)
    assert done.predictor_id is not None
    return client.predictor(done.predictor_id)


def run_campaign(
    client: Client, request: CampaignRequest, campaign: Campaign, progress: Progress
) -> CampaignView:
    """A new campaign, or one that runs for the same already, when it is done.

    Raises:
        MeasurementFailed: the campaign failed or was cancelled.
        Timeout: the campaign is still running.
    """
    running = _running(client, request) or client.create_campaign(request)
    done = client.wait_for_campaign(
        running.id,
        timeout_seconds=campaign.timeout_seconds,
        on_view=lambda view: progress(_step(view)),
    )
    if done.state != "done" or (done.purpose == "predictor" and done.predictor_id is None):
        raise MeasurementFailed(
            f"The campaign {done.id} is {done.state}: {done.failure or 'no reason is given'}",
            f"See `latency-service campaigns show {done.id}`.",
        )
    return done


def _names(devices: list[DeviceView]) -> str:
    return ", ".join(sorted(device.name for device in devices)) or "none yet"


def _is_outdated(view: PredictorView, query: PredictorQuery) -> bool:
    return view.stale or view.target_id != query.target_id


def _fault(view: PredictorView, query: PredictorQuery) -> str | None:
    faults = {
        "it is of another network": view.space_id != query.space_id,
        f"it is of the device {view.device!r}, not {query.device!r}": view.device != query.device,
        f"it is of {view.runtime.key}, not {query.runtime.key}": view.runtime != query.runtime,
        "it is stale: the device has changed since it was measured": view.stale,
        "the fingerprint of the device has changed since it was measured": (
            view.target_id != query.target_id
        ),
    }
    return next((reason for reason, holds in faults.items() if holds), None)


def _missing(client: Client, query: PredictorQuery) -> Missing:
    stale = sum(_is_outdated(view, query) for view in _every(client, query))
    known = f"; {stale} stale: the device has changed since" if stale else ""
    repair = " --repair" if stale else ""
    return Missing(
        f"There is no predictor for the space {query.space_id[:12]} on the device "
        f"{query.device!r} ({query.runtime.key}){known}.",
        f"Make one: `latency-service campaigns create --space {query.space_id} --device "
        f"{query.device}{repair}`.",
    )


def _every(client: Client, query: PredictorQuery) -> list[PredictorView]:
    try:
        return client.predictors(
            space_id=query.space_id, device=query.device, runtime=query.runtime
        )
    except ApiError as error:
        if error.code == "not_ready":
            return []
        raise


def _running(client: Client, request: CampaignRequest) -> CampaignView | None:
    views = client.campaigns(space_id=request.space_id, device=request.device, state="running")
    wanted = (request.purpose, request.runtime)
    return next((view for view in views if (view.purpose, view.runtime) == wanted), None)


def _request(query: PredictorQuery, campaign: Campaign, seed: int) -> CampaignRequest:
    return CampaignRequest(
        space_id=query.space_id,
        device=query.device,
        runtime=query.runtime,
        count=campaign.architectures,
        repeats=campaign.repeats,
        goal_percent=campaign.error_goal,
        seed=seed,
    )


def _step(view: CampaignView) -> ProgressEvent:
    failed = {"failed jobs": str(view.jobs_failed)} if view.jobs_failed else {}
    return ProgressEvent(
        phase=_PHASES[view.phase if view.purpose == "predictor" else "measuring"],
        done=view.architectures_measured,
        total=view.architectures_total,
        unit="architectures",
        figures=failed,
    )
