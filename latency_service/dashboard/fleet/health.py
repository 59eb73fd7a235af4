"""What about a device makes its measurements late, unsteady or stale, each with its cure. Pure.

The device's own `latency-service doctor` sees more; this is what the service knows of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field

from latency_service.dashboard.fleet.queries import Pace
from latency_service.devices.schemas import DeviceView, TargetView

#: Share of a day's attempts that failed from which on a device is named.
FAILED_SHARE = 0.2
#: Fewest attempts for that.
LEAST_ATTEMPTS = 5
HOT_C = 85.0


class Finding(BaseModel):
    """One thing that is not as it should be."""

    device: str
    check: str
    found: str
    cure: str = Field(description="what to do about it")


class Condition(BaseModel):
    """What agents of a device told with their last sign of life."""

    load: float | None = None
    temperature_c: float | None = None
    cores: int | None = None


def findings(device: DeviceView, pace: Pace | None, condition: Condition) -> list[Finding]:
    """What is wrong with a device, most urgent first."""
    found = [
        *_quarantine(device),
        *_differences(device),
        *_silence(device),
        *_failures(pace),
        *_condition(condition),
        *(entry for target in _current(device) for entry in _machine(target.facts)),
        *_stale(device),
    ]
    unique = dict.fromkeys(found)
    return [
        Finding(device=device.name, check=check, found=text, cure=cure)
        for check, text, cure in unique
    ]


_Entry = tuple[str, str, str]


def _quarantine(device: DeviceView) -> Iterator[_Entry]:
    if device.quarantine is not None:
        yield "quarantine", device.quarantine.reason, device.quarantine.cure


def _differences(device: DeviceView) -> Iterator[_Entry]:
    for one in device.differences:
        yield (
            "differs",
            f"its latencies differ by {one.median_percent:+.0f} % from those of {one.peer_device}, "
            f"which has the same fingerprint ({one.architectures} networks, {one.runtime})",
            one.cure,
        )


def _silence(device: DeviceView) -> Iterator[_Entry]:
    if not device.online and device.imported_from is None:
        yield (
            "offline",
            "no agent of it has been heard of lately",
            "Start it there: latency-service agent --server URL",
        )


def _failures(pace: Pace | None) -> Iterator[_Entry]:
    if pace is None or pace.done + pace.failed < LEAST_ATTEMPTS:
        return
    if pace.failed >= FAILED_SHARE * (pace.done + pace.failed):
        yield (
            "failures",
            f"{pace.failed} of {pace.done + pace.failed} attempts failed within 24 hours",
            "Read the failures on the device's page, and run there: latency-service doctor",
        )


def _condition(condition: Condition) -> Iterator[_Entry]:
    if condition.temperature_c is not None and condition.temperature_c >= HOT_C:
        yield (
            "temperature",
            f"{condition.temperature_c:.0f} °C: the clock is being lowered",
            "Cool the device, or let it rest.",
        )
    if condition.load is not None and condition.cores and condition.load > condition.cores + 1:
        yield (
            "load",
            f"load {condition.load:.1f} on {condition.cores} cores",
            "Stop what else runs there, or expect more rounds and `unstable`.",
        )


def _machine(facts: Mapping[str, Any]) -> Iterator[_Entry]:
    if facts.get("governor") not in (None, "", "performance"):
        yield (
            "governor",
            f"{facts['governor']}: the clock follows the load",
            "Hold it: sudo cpupower frequency-set -g performance",
        )
    if facts.get("cgroup_cpus"):
        yield (
            "quota",
            f"{facts['cgroup_cpus']:g} processors' worth of time, set by a control group",
            "Give the agent whole cores (cpuset) instead of a quota.",
        )


def _stale(device: DeviceView) -> Iterator[_Entry]:
    current = {target.runtime.key for target in _current(device)}
    for key in sorted({target.runtime.key for target in device.targets} - current):
        yield (
            "stale",
            f"changed since it was last measured with {key}",
            "Repair its predictors: latency-service predictors list shows the command",
        )


def _current(device: DeviceView) -> list[TargetView]:
    return [target for target in device.targets if target.is_current]
