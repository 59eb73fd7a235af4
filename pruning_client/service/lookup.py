"""Finding the device, and the predictor of a space on its target; a campaign makes one where there
is none.
"""

from __future__ import annotations

from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.client import Client
from latency_service.core.transport import ApiError
from latency_service.devices.schemas import DeviceView, RuntimeConfig
from latency_service.predictors.schemas import PredictorView
from pruning_client.errors import MeasurementFailed, Missing, PredictorRefused, UsageError
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.pipeline.config import CampaignConfig


def find_device(client: Client, name: str | None) -> DeviceView:
    """The device of this name, or the only one when no name is given; its agent must be online.

    Raises:
        Missing: there is none, or its agent is offline.
        UsageError: no name is given and there are several.
    """
    devices = client.devices()
    names = ", ".join(sorted(device.name for device in devices)) or "none yet"
    if name is None and len(devices) > 1:
        raise UsageError(
            f"There are several devices: {names}.", "Choose one with --device (`device`)."
        )
    found = next((device for device in devices if name in (None, device.name)), None)
    if found is None:
        cause = (
            "There is no device."
            if name is None
            else f"There is no device {name!r}; known: {names}."
        )
        raise Missing(
            cause, "Start an agent there: `latency-service agent --server URL --token ENROLMENT`."
        )
    if not found.online:
        raise Missing(
            f"The device {found.name!r} is offline.",
            "Start its agent again: `latency-service up` or `latency-service agent`.",
        )
    return found


def find_predictor(
    client: Client, space_id: str, device: str, runtime: RuntimeConfig, target_id: str
) -> PredictorView | None:
    """The newest predictor of the space on this very target that is not stale."""
    views = _every(client, space_id, device, runtime)
    return next((view for view in views if view.target_id == target_id and not view.stale), None)


def find_named(
    client: Client,
    predictor_id: str,
    *,
    space_id: str,
    device: str,
    runtime: RuntimeConfig,
    target_id: str,
) -> PredictorView:
    """The predictor of this id, if it is one of the space on this very target.

    Raises:
        PredictorRefused: it is stale, or of another network, device or runtime configuration.
    """
    view = client.predictor(predictor_id)
    faults = {
        "it is of another network": view.space_id != space_id,
        f"it is of the device {view.device!r}, not {device!r}": view.device != device,
        f"it is of {view.runtime.key}, not {runtime.key}": view.runtime.key != runtime.key,
        "it is stale: the device has changed since it was measured": view.stale,
        "the device's fingerprint is another one than when it was measured": view.target_id
        != target_id,
    }
    fault = next((reason for reason, holds in faults.items() if holds), None)
    if fault is not None:
        raise PredictorRefused(
            f"The predictor {predictor_id} is refused: {fault}.",
            "Name no predictor: the right one is found or made.",
        )
    return view


def need_predictor(
    client: Client,
    space_id: str,
    device: str,
    runtime: RuntimeConfig,
    target_id: str,
    config: CampaignConfig,
    seed: int,
    progress: Progress,
) -> PredictorView:
    """The predictor of the space on the target; measures and trains one when there is none.

    Raises:
        Missing: there is none, and no campaign may be started.
        MeasurementFailed: the campaign failed or was cancelled.
        Timeout: the campaign is still running.
    """
    found = find_predictor(client, space_id, device, runtime, target_id)
    if found is not None:
        return found
    if not config.allowed:
        stale = sum(
            view.stale or view.target_id != target_id
            for view in _every(client, space_id, device, runtime)
        )
        known, repair = (
            (f"; {stale} stale: the device has changed since", " --repair") if stale else ("", "")
        )
        raise Missing(
            f"There is no predictor for the space {space_id[:12]} on the device {device!r} "
            f"({runtime.key}){known}.",
            f"Make one: `latency-service campaigns create --space {space_id} --device "
            f"{device}{repair}`.",
        )
    campaign = _running(client, space_id, device, runtime) or client.create_campaign(
        CampaignRequest(
            space_id=space_id,
            device=device,
            runtime=runtime,
            count=config.count,
            repeats=config.repeats,
            seed=seed,
        )
    )
    done = client.wait_for_campaign(
        campaign.id,
        timeout_seconds=config.timeout_seconds,
        on_view=lambda view: progress(_step(view)),
    )
    if done.state != "done" or done.predictor_id is None:
        raise MeasurementFailed(
            f"The campaign {done.id} is {done.state}: {done.failure or 'no reason is given'}",
            f"See `latency-service campaigns show {done.id}`.",
        )
    return client.predictor(done.predictor_id)


def _every(
    client: Client, space_id: str, device: str, runtime: RuntimeConfig
) -> list[PredictorView]:
    try:
        return client.predictors(space_id=space_id, device=device, runtime=runtime)
    except ApiError as error:
        if error.code == "not_ready":
            return []
        raise


def _running(
    client: Client, space_id: str, device: str, runtime: RuntimeConfig
) -> CampaignView | None:
    views = client.campaigns(space_id=space_id, device=device, state="running")
    return next(
        (view for view in views if view.purpose == "predictor" and view.runtime == runtime), None
    )


def _step(view: CampaignView) -> ProgressEvent:
    names = {
        "lattice": "find the lattice",
        "measuring": "measure",
        "training": "train the predictor",
        "done": "train the predictor",
    }
    failed = {"failed jobs": str(view.jobs_failed)} if view.jobs_failed else {}
    return ProgressEvent(
        phase=names[view.phase],
        done=view.architectures_measured,
        total=view.architectures_total,
        unit="architectures",
        figures=failed,
    )
