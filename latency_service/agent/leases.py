"""What an agent demands of a lease before it works on it, whatever the service let through."""

from __future__ import annotations

import math

from latency_service.agent.measuring.ipc import MeasuringFailed
from latency_service.jobs.schemas import Lease

MAX_ARCHITECTURES = 4096
MAX_GROUPS = 4096
#: Largest width, and largest seed that every generator of random numbers takes.
MAX_WIDTH = 1 << 31
MAX_SEED = (1 << 63) - 1
#: Longest time for one architecture, for one visit to it, and for warming it up.
MAX_BUDGET_SECONDS = 3600.0
MAX_ROUND_MS = 60_000.0
MAX_WARM_UP_SECONDS = 600.0
MAX_WARM_UP_RUNS = 10_000
#: How often a lease is renewed: at least and at most. An agent that renews less often than the
#: service wants loses the lease; one that renews without a pause loads it.
RENEW_SECONDS = (0.05, 3600.0)


def check_lease(lease: Lease) -> None:
    """Refuse a lease that no device could carry out.

    Raises:
        MeasuringFailed: `lease_invalid`; the message names the field and its limit.
    """
    protocol = lease.protocol
    _check("protocol.budget_seconds", protocol.budget_seconds, 1e-3, MAX_BUDGET_SECONDS)
    _check("protocol.round_ms", protocol.round_ms, 1e-3, MAX_ROUND_MS)
    _check("protocol.half_width", protocol.half_width, 1e-6, 10.0)
    _check("protocol.warmup_min_seconds", protocol.warmup_min_seconds, 0.0, MAX_WARM_UP_SECONDS)
    _check("protocol.warmup_min_runs", protocol.warmup_min_runs, 0, MAX_WARM_UP_RUNS)
    _check("seed", lease.seed, 0, MAX_SEED)
    _check("architectures", len(lease.architectures), 0, MAX_ARCHITECTURES)
    for architecture in lease.architectures:
        _check("architectures.index", architecture.index, 0, MAX_WIDTH)
        _check("architectures.widths", len(architecture.widths), 0, MAX_GROUPS)
        for width in architecture.widths:
            _check("a width", width, 1, MAX_WIDTH)
    _check_kind(lease)


def renew_seconds(lease: Lease) -> float:
    """Time between two renewals, s: what the service asks for, within limits."""
    least, most = RENEW_SECONDS
    if not math.isfinite(lease.renew_seconds):
        return most
    return min(max(lease.renew_seconds, least), most)


def invalid(cause: str) -> MeasuringFailed:
    return MeasuringFailed("lease_invalid", f"the lease asks for what no device can do: {cause}.")


def _check_kind(lease: Lease) -> None:
    if lease.kind == "verify" and lease.model_sha256 is None:
        raise invalid("it is to verify a file and names none")
    if lease.kind == "measure" and not lease.architectures:
        raise invalid("it is to measure architectures and names none")


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # so that NaN is refused
        raise invalid(f"{name} is {value!s:.40}, from {least:g} to {most:g} is possible")
