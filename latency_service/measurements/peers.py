"""Comparison of devices of one class: what was measured twice should agree.

Two devices are of one class when their targets have the same fingerprint: the same processor,
clocks, limits and ONNX Runtime. What one of them measures is then a repeat of what the other one
measured, and a difference tells of a device that is sick, or lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from sqlalchemy.orm import Session

from latency_service.devices import repository as devices_repository
from latency_service.devices.drift import CHANGED
from latency_service.devices.models import Device, Target
from latency_service.measurements import repository
from latency_service.measurements.schemas import LEAST_COMPARED, PeerView

#: Space and widths of an architecture.
Architecture = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How one target differs from another on what both have measured."""

    architectures: int
    #: How much longer they take than on the other, at the median, per cent.
    median_percent: float
    #: Whether the intervals of most of them are apart, and the median differs by more than
    #: calibrations of one machine do.
    is_beyond_noise: bool

    def mirrored(self) -> Difference:
        """As the other target sees it."""
        return replace(self, median_percent=_percent(1.0, 1 + self.median_percent / 100))


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


def difference(
    own: Mapping[tuple[int, ...], repository.Latency],
    other: Mapping[tuple[int, ...], repository.Latency],
) -> Difference | None:
    """How `own` measurements differ from `other` ones, by their widths; None where too few
    architectures are in both.
    """
    pairs = [(own[key], other[key]) for key in own.keys() & other.keys()]
    if len(pairs) < LEAST_COMPARED:
        return None
    apart = sum(a.lower_ms > b.upper_ms or b.lower_ms > a.upper_ms for a, b in pairs)
    middle = _percent(median(a.latency_ms / b.latency_ms for a, b in pairs), 1.0)
    return Difference(
        architectures=len(pairs),
        median_percent=middle,
        is_beyond_noise=2 * apart > len(pairs) and abs(middle) > 100 * CHANGED,
    )


def odd_ones(differs: Mapping[tuple[str, str], bool]) -> dict[str, str]:
    """Targets that are outvoted: they differ from others which agree with each other, and which are
    more than those that agree with them, themselves included; for each one of those others.

    Args:
        differs: whether targets differ, by their ids, both ways round.
    """
    found: dict[str, str] = {}
    for target in sorted({one for one, _ in differs}):
        others = [(peer, apart) for (one, peer), apart in differs.items() if one == target]
        apart_from = sorted(peer for peer, apart in others if apart)
        agreeing = next(
            (one for one in apart_from for two in apart_from if differs.get((one, two)) is False),
            None,
        )
        with_it = 1 + len(others) - len(apart_from)
        if agreeing is not None and len(apart_from) > with_it:
            found[target] = agreeing
    return found


def canary_percent(target: Target, peer: Target) -> list[float]:
    """How much longer each canary takes on the target than on its peer, per cent; empty where they
    are not the same canaries.
    """
    if target.canaries != peer.canaries:
        return []
    return [_percent(*pair) for pair in zip(target.canary_ms, peer.canary_ms, strict=True)]


def do_canaries_differ(percent: Iterable[float]) -> bool:
    """Whether every canary differs by more than calibrations of one machine do."""
    return min((abs(value) for value in percent), default=0.0) > 100 * CHANGED


def _beside(session: Session, target: Target, peer: Target) -> PeerView:
    found = differences(_latencies(session, target), _latencies(session, peer))
    canaries = canary_percent(target, peer)
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
        differs=do_canaries_differ(canaries)
        or (middle is not None and abs(middle) > 100 * CHANGED),
    )


def _percent(own: float, other: float) -> float:
    return 100 * (own / other - 1)


def _latencies(session: Session, target: Target) -> dict[Architecture, list[float]]:
    found: dict[Architecture, list[float]] = {}
    for space_id, widths, latency_ms in repository.trusted_on(session, target.id):
        found.setdefault((space_id, tuple(widths)), []).append(latency_ms)
    return found
