"""Predictors for benchmarks: of a synthetic device, or of this machine by an embedded service."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from latency_service.agent.fingerprint import fingerprint
from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.transport import ApiError
from latency_service.devices.schemas import RuntimeConfig
from latency_service.lattices.sampling import sample
from latency_service.measurements.schemas import Protocol
from latency_service.predictors.schemas import PredictorView
from latency_service.spaces.layers import total_macs
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.pipeline import KnownTarget, TrainingSet, train
from pruning_client.latency.predictor import LocalSource, Predictor
from pruning_client.service.embedded import Embedded

#: Folder outside version control for what long benchmarks keep between runs.
RUNS = Path(__file__).parents[2] / "runs" / "benchmarks"
#: Protocol that suffices for a predictor from a hundred measurements on a noisy machine.
PROTOCOL = Protocol(half_width=0.02)
_FINGERPRINT = "0" * 64


def made_up_set(space: SearchSpace, count: int = 60) -> TrainingSet:
    """Measurements of a synthetic device: latency is a line on multiply-accumulates."""
    lattice = [
        [w for w in range(g.minimum, g.width + 1) if w % 4 == 0 or w == g.width]
        for g in space.groups
    ]
    widths = np.asarray(sample(space, lattice, count, seed=0))
    return TrainingSet(
        space=space,
        fingerprint=_FINGERPRINT,
        measurement_ids=[str(i) for i in range(len(widths))],
        widths=widths,
        latency_ms=0.05 + total_macs(space, widths) / 5e7,
        half_width=np.full(len(widths), 0.01),
        lattice=lattice,
        seed=0,
    )


def made_up_transfer(space: SearchSpace, others: int = 3) -> TrainingSet:
    """Ten measurements of a synthetic device, and four hundred of each of several others.

    The devices differ in overhead, exponent and cost of channels: no other one alone explains the
    first.
    """
    whole = made_up_set(space, 400)
    rng = np.random.default_rng(0)
    macs = total_macs(space, whole.widths.astype(np.float64)) / 5e7

    def latency_ms(kind: int) -> npt.NDArray[np.float64]:
        exact = (
            0.05 * (1 + kind)
            + (1 + 0.3 * kind) * macs ** (1 - 0.05 * kind)
            + 1e-4 * kind * whole.widths.sum(1)
        )
        return np.asarray(exact * np.exp(rng.normal(0, 0.01, len(exact))))

    known = [
        KnownTarget(widths=whole.widths, latency_ms=latency_ms(kind))
        for kind in range(1, 1 + others)
    ]
    return replace(
        made_up_set(space, 10), latency_ms=latency_ms(0)[:10], widths=whole.widths[:10], known=known
    )


def made_up_predictor(space: SearchSpace) -> Predictor:
    """A predictor of the usual form, trained on `made_up_set`, that runs in this process."""
    trained = train(made_up_set(space))
    view = PredictorView(
        id="made-up",
        space_id=space.id,
        target_id="made-up",
        device="made-up",
        runtime=RuntimeConfig(),
        version=1,
        stale=False,
        created_at=datetime.now(UTC),
        artifact_sha256=sha256(trained.artifact).hexdigest(),
        sidecar=trained.sidecar,
    )
    return Predictor(view, LocalSource(trained.artifact))


def machine_folder(quick: bool) -> Path:
    """Folder for what benchmarks measured on this target, so that they can be run in pieces.

    Another processor, runtime or configuration has another folder: measurements are never mixed.
    """
    name = fingerprint(RuntimeConfig()).digest[:12]
    return RUNS / (f"{name}-quick" if quick else name)


def machine_predictor(
    service: Embedded,
    space: SearchSpace,
    *,
    count: int,
    repeats: int,
    runtime: RuntimeConfig | None = None,
) -> Predictor:
    """The predictor of a space on this machine, measured and trained when there is none.

    Args:
        count: architectures to measure, `repeats` of them twice.
        runtime: of the target; by default one thread and fp32.

    Raises:
        RuntimeError: the campaign failed.
    """
    client = service.client
    progress = _Progress()
    client.create_space(space)
    runtime = runtime or RuntimeConfig()
    known = known_predictor(service, space, runtime)
    if known is not None:
        return known
    request = CampaignRequest(
        space_id=space.id,
        device=service.device,
        runtime=runtime,
        count=count,
        repeats=repeats,
        protocol=PROTOCOL,
    )
    campaign = client.create_campaign(request)
    done = client.wait_for_campaign(campaign.id, timeout_seconds=3600, on_view=progress)
    if done.predictor_id is None:
        raise RuntimeError(f"the campaign {done.id} is {done.state}: {done.failure}")
    return Predictor.local(client, client.predictor(done.predictor_id))


def known_predictor(
    service: Embedded, space: SearchSpace, runtime: RuntimeConfig | None = None
) -> Predictor | None:
    """The predictor of a space on this machine; None when there is none that is up to date.

    Args:
        runtime: of the target; by default one thread and fp32.
    """
    try:
        views = service.client.predictors(space_id=space.id, device=service.device)
    except ApiError as error:
        if error.code in ("not_ready", "not_found"):
            return None
        raise
    wanted = runtime or RuntimeConfig()
    view = next((view for view in views if not view.stale and view.runtime == wanted), None)
    return None if view is None else Predictor.local(service.client, view)


class _Progress:
    """Prints each phase of a campaign once."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, view: CampaignView) -> None:
        if view.phase != self._phase:
            self._phase = view.phase
            print(f"  campaign: {view.phase}", flush=True)
