"""Comparison of devices of one class: what was measured twice should agree.

Two devices are of one class when their targets have the same fingerprint: the same processor,
clocks, limits and ONNX Runtime. What one of them measures is then a repeat of what the other one
measured, and a difference tells of a device that is sick, or lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from sqlalchemy.orm import Session

from latency_service.devices import repository as devices_repository
from latency_service.devices.drift import CHANGED
from latency_service.devices.models import Device, Target
from latency_service.measurements import repository
from latency_service.measurements.schemas import PeerView

#: Space and widths of an architecture.
Architecture = tuple[str, tuple[int, ...]]


def compare(session: Session, device: Device) -> list[PeerView]:
    """Each current target of the device beside each other device's with the same fingerprint."""
    targets = devices_repository.targets_of(session, [device.id])
    mine = [target for target in targets if target.is_current]
    return [
        _beside(session, target, peer)
        for target in mine
        for peer in devices_repository.peers_of(session, target)
    ]


def differences(
    own: Mapping[Architecture, Sequence[float]], other: Mapping[Architecture, Sequence[float]]
) -> list[float]:
    """By how many per cent the medians of `own` lie above those of `other`, for what both have."""
    return [_percent(median(own[key]), median(other[key])) for key in own.keys() & other.keys()]


def _beside(session: Session, target: Target, peer: Target) -> PeerView:
    found = differences(_latencies(session, target), _latencies(session, peer))
    canaries = _canaries(target, peer)
    middle = median(found) if found else None
    return PeerView(
        target_id=target.id,
        fingerprint=target.fingerprint,
        peer_device=peer.device.name,
        peer_target_id=peer.id,
        canary_percent=canaries,
        architectures=len(found),
        median_percent=middle,
        greatest_percent=max(found, key=abs, default=None),
        differs=_differ(canaries, middle),
    )


def _canaries(target: Target, peer: Target) -> list[float]:
    if target.canaries != peer.canaries:
        return []
    return [_percent(*pair) for pair in zip(target.canary_ms, peer.canary_ms, strict=True)]


def _differ(canaries: Iterable[float], middle: float | None) -> bool:
    limit = 100 * CHANGED
    least = min((abs(value) for value in canaries), default=0.0)
    return least > limit or (middle is not None and abs(middle) > limit)


def _percent(own: float, other: float) -> float:
    return 100 * (own / other - 1)


def _latencies(session: Session, target: Target) -> dict[Architecture, list[float]]:
    found: dict[Architecture, list[float]] = {}
    for space_id, widths, latency_ms in repository.trusted_on(session, target.id):
        found.setdefault((space_id, tuple(widths)), []).append(latency_ms)
    return found
