"""Jobs that a campaign puts into the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from latency_service.campaigns.models import Campaign
from latency_service.devices import repository as devices_repository
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.lattices.planning import sweep_protocol
from latency_service.lattices.probes import probe_space
from latency_service.measurements import repeats
from latency_service.measurements.models import Measurement
from latency_service.measurements.schemas import LEAST_COMPARED, Protocol
from latency_service.spaces import service as spaces_service
from latency_service.spaces.models import Space

Widths = list[int]


def queue_measuring(
    session: Session, campaign: Campaign, widths: Sequence[Widths], *, position: int = 0
) -> int:
    """Queue the measurement of these architectures; the position after the last job."""
    space = spaces_service.get_space(session, campaign.space_id)
    batches = list(_batches(widths, campaign.batch_size))
    rows = [
        _row(campaign, "measuring", space, batch, position=position + offset)
        for offset, batch in enumerate(batches)
    ]
    jobs_repository.insert(session, rows)
    return position + len(batches)


def queue_more(session: Session, campaign: Campaign, widths: Sequence[Widths]) -> None:
    """Queue the measurement of these architectures after everything queued so far."""
    queued = jobs_repository.jobs_of(session, campaign.id, "measuring")
    queue_measuring(session, campaign, widths, position=len(queued))
    campaign.phase = "measuring"
    session.flush()


def queue_sweeps(
    session: Session, campaign: Campaign, wanted: Mapping[str, Widths], *, position: int = 0
) -> None:
    """Queue one job for each kind of layer: widths to be compared are measured side by side."""
    protocol = sweep_protocol(Protocol.model_validate(campaign.protocol)).model_dump()
    for offset, (kind, widths) in enumerate(wanted.items()):
        space = spaces_service.describe(probe_space(kind), is_probe=True)
        probe, _ = spaces_service.store(session, space)
        batch = [[width] for width in widths]
        row = _row(campaign, "lattice", probe, batch, position=position + offset, protocol=protocol)
        jobs_repository.insert(session, [row])


def queue_peer_repeats(
    session: Session, campaign: Campaign, target_id: str, rows: Sequence[Measurement]
) -> None:
    """Have some of what was measured on the target measured by a second device of its class, if
    there is one that can.
    """
    trusted = [row for row in rows if row.target_id == target_id and row.verdict == "ok"]
    measured = [list(each) for each in dict.fromkeys(tuple(row.widths or ()) for row in trusted)]
    chosen = spread(measured, campaign.peer_repeats)
    if len(chosen) < LEAST_COMPARED:
        return
    origin = devices_repository.target(session, target_id)
    space = spaces_service.get_space(session, campaign.space_id)
    row = _row(campaign, repeats.STAGE, space, chosen, position=0)
    repeats.queue(session, origin, {name: row[name] for name in repeats.COPIED}, chosen)


def spread(widths: Sequence[Widths], count: int) -> list[Widths]:
    """`count` of the architectures, evenly spaced over the sample."""
    taken = min(count, len(widths))
    return [widths[i * len(widths) // taken] for i in range(taken)]


def queue_training(session: Session, campaign: Campaign, target_id: str) -> None:
    """Queue the training of a predictor on what was measured on the target."""
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


def _batches(widths: Sequence[Widths], size: int) -> Iterator[Sequence[Widths]]:
    for start in range(0, len(widths), size):
        yield widths[start : start + size]


def _row(
    campaign: Campaign,
    stage: str,
    space: Space,
    batch: Sequence[Widths],
    *,
    position: int,
    protocol: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Columns of a measuring job."""
    return {
        "kind": "measure",
        "campaign_id": campaign.id,
        "device_id": campaign.device_id,
        "stage": stage,
        "position": position,
        "space_id": space.id,
        "opset": space.opset,
        "runtime": campaign.runtime,
        "protocol": protocol or campaign.protocol,
        "provider": campaign.runtime["provider"],
        "seed": campaign.seed,
        "architectures": [list(row) for row in batch],
    }
