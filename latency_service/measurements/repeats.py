"""Repeats on a second device of the class: a share of what a campaign has measured is measured once
more on a device with the same fingerprint, and the two are compared.

A difference that is more than noise is told of both devices (`DeviceView.differences`), since two
alone do not show which of them is wrong. A third one is then asked. The device that differs from
the others, which agree, is quarantined until its checks agree with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy.orm import Session

from latency_service.devices import quarantine
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.devices.models import Comparison, Device, Target
from latency_service.devices.presence import FLEET_SECONDS
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.measurements import peers, repository
from latency_service.settings import Settings

log = structlog.get_logger(__name__)

#: Value of `Job.stage`, and priority: after all other work.
STAGE = "peer"
PRIORITY = 20
#: Number of devices of a class that one repeat is compared with, and that may be asked for one.
MOST_COMPARED = 8
MOST_ASKED = 50
#: Maximum number of devices that repeat the same architectures.
MOST_REPEATING = 4

#: Columns of a job that a repeat of what it measured takes over.
COPIED = ("space_id", "provider", "opset", "runtime", "protocol", "seed")


def queue(
    session: Session,
    origin: Target,
    columns: Mapping[str, Any],
    architectures: Sequence[list[int]],
    *,
    apart: Iterable[str] = (),
) -> str | None:
    """Have architectures that were measured on `origin` measured on another trusted device of its
    class that is there and can run them; its name, or None where there is none.

    Args:
        columns: of the new job (`COPIED`).
        apart: devices that have measured them already.
    """
    peer = _choose(session, origin, columns, {origin.device_id, *apart})
    if peer is None:
        return None
    repeat = {
        **columns,
        "kind": "measure",
        "stage": STAGE,
        "priority": PRIORITY,
        "device_id": peer.device_id,
        "target_id": origin.id,
        "architectures": [list(widths) for widths in architectures],
    }
    jobs_repository.insert(session, [repeat])
    log.info("repeat_queued", device=peer.device.name, architectures=len(architectures))
    return peer.device.name


def review(session: Session, settings: Settings, attempt_id: str) -> None:
    """Compare the result of a repeat with what the others of its class have measured; call it in a
    transaction of its own, after the one that stored the result. Idempotent.
    """
    job, target = _repeat_of(session, attempt_id)
    if target is None:
        return
    compared = _to_compare(session, job, target)
    for device_id in sorted({each.device_id for each in (target, *compared)}):
        devices_repository.lock_device(session, device_id)
    for peer in compared:
        _compare(session, job, target, peer)
    session.flush()
    involved = {each.id: each for each in (target, *compared)}
    known = devices_repository.comparisons_among(session, list(involved))
    differs = {(row.target_id, row.peer_target_id): row.differs for row in known}
    odd = peers.odd_ones(differs)
    for target_id, agreeing in odd.items():
        _distrust(session, settings, involved[target_id], involved[agreeing])
    _release_recovered(session, target, differs)
    if not odd and differs.get((target.id, str(job.target_id))):
        _ask_another(session, job, target, compared)


def _repeat_of(session: Session, attempt_id: str) -> tuple[Job, Target | None]:
    """The job of an attempt, and the target that it was measured on if there is anything to
    compare.
    """
    found = jobs_repository.spec_of_attempt(session.connection(), attempt_id)
    assert found is not None
    job = session.get_one(Job, found[0].id)
    measured = repository.target_of_attempt(session, attempt_id)
    if measured is None or job.target_id is None:
        return job, None
    origin = devices_repository.target(session, job.target_id)
    target = devices_repository.target(session, measured)
    is_comparable = (
        target.fingerprint == origin.fingerprint and target.device_id != origin.device_id
    )
    return job, target if is_comparable and target.is_current else None


def _to_compare(session: Session, job: Job, target: Target) -> list[Target]:
    origin = devices_repository.target(session, str(job.target_id))
    others = devices_repository.compared_with(session, [origin.id, target.id], MOST_COMPARED)
    candidates = dict.fromkeys([origin, *others])
    return [
        each
        for each in candidates
        if each.is_current
        and each.device_id != target.device_id
        and each.fingerprint == target.fingerprint
    ]


def _compare(session: Session, job: Job, target: Target, peer: Target) -> None:
    """Store how the two differ on what the job has measured, unless that is too little."""
    own, other = (
        repository.newest_on(session, str(job.space_id), each.id, job.architectures)
        for each in (target, peer)
    )
    found = peers.difference(own, other)
    if found is None:
        return
    differs = found.is_beyond_noise or peers.do_canaries_differ(peers.canary_percent(target, peer))
    for one, two, seen in ((target, peer, found), (peer, target, found.mirrored())):
        session.merge(
            Comparison(
                target_id=one.id,
                peer_target_id=two.id,
                architectures=seen.architectures,
                median_percent=seen.median_percent,
                canary_percent=peers.canary_percent(one, two),
                differs=differs,
                compared_at=devices_repository.now(session),
            )
        )


def _distrust(session: Session, settings: Settings, target: Target, agreeing: Target) -> None:
    device = session.get_one(Device, target.device_id)
    is_own = device.imported_from is None
    if not settings.quarantine or device.quarantined_at is not None or not is_own:
        return
    [row] = [
        one
        for one in devices_repository.comparisons_among(session, [target.id, agreeing.id])
        if one.target_id == target.id
    ]
    other = session.get_one(Device, agreeing.device_id).name
    reason = (
        f"its latencies differ by {row.median_percent:+.0f} % from those of {other} and of others "
        "of its class, which agree with each other"
    )
    quarantine.begin(device, reason, agreeing.id)


def _release_recovered(
    session: Session, target: Target, differs: Mapping[tuple[str, str], bool]
) -> None:
    """End the quarantine of a device that agrees with the one that it differed from."""
    device = session.get_one(Device, target.device_id)
    if differs.get((target.id, str(device.quarantine_target_id))) is False:
        quarantine.release(device, "it agrees with the others of its class")


def _ask_another(session: Session, job: Job, target: Target, compared: Sequence[Target]) -> None:
    """A further device, which shows which of two that differ is wrong."""
    measured_by = {each.device_id for each in (target, *compared)}
    if len(measured_by) >= MOST_REPEATING:
        return
    origin = devices_repository.target(session, str(job.target_id))
    columns = {name: getattr(job, name) for name in COPIED}
    queue(session, origin, columns, job.architectures, apart=measured_by)


def _choose(
    session: Session, origin: Target, columns: Mapping[str, Any], apart: set[str]
) -> Target | None:
    """One that differs from `origin` as far as is known, then the one with the least work, then the
    one that was not compared with it for longest.
    """
    found = devices_repository.trusted_peers(session, origin, FLEET_SECONDS, MOST_ASKED)
    candidates = [peer for peer in found if peer.device_id not in apart]
    device_ids = [peer.device_id for peer in candidates]
    able = {
        agent.device_id
        for agent in devices_repository.agents_of(session, device_ids)
        if devices_service.can_run(agent, columns["provider"], columns["opset"])
    }
    waiting = jobs_repository.waiting_of_devices(session, device_ids)
    among = [origin.id, *(peer.id for peer in candidates)]
    known = {
        row.peer_target_id: row
        for row in devices_repository.comparisons_among(session, among)
        if row.target_id == origin.id
    }

    def precedence(peer: Target) -> tuple[bool, int, float, str]:
        row = known.get(peer.id)
        compared_at = 0.0 if row is None else row.compared_at.timestamp()
        agrees = row is None or not row.differs
        return agrees, waiting.get(peer.device_id, 0), compared_at, peer.device.name

    return min(
        (peer for peer in candidates if peer.device_id in able), key=precedence, default=None
    )
